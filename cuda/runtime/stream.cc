#include "runtime/stream.h"

#include "engine/error.h"
#include "runtime/cuda_calls.h"

// Every call names its stream or event, but the device is made current first anyway: almost any runtime call creates a
// context on the thread's current device, which is device 0 by default.

namespace billfish::BILLFISH_TARGET {

Event::Event(Device& device, bool timed) : state_(new State{device}) {
  const OnDevice on_device(device);
  const unsigned flags = timed ? cudaEventDefault : cudaEventDisableTiming;
  check(cudaEventCreateWithFlags(&state_->event, flags), device, "cudaEventCreateWithFlags");
}

Event::~Event() {
  cudaSetDevice(state_->device.index());
  cudaEventDestroy(state_->event);
}

void Event::synchronize() const {
  const OnDevice on_device(state_->device);
  check(cudaEventSynchronize(state_->event), state_->device, "cudaEventSynchronize");
}

float Event::milliseconds(const Event& start, const Event& end) {
  const OnDevice on_device(end.state_->device);
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, start.state_->event, end.state_->event), end.state_->device,
        "cudaEventElapsedTime");
  return milliseconds;
}

Graph::Graph() : state_(new State) {}
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&& other) noexcept {
  state_.swap(other.state_);
  return *this;
}
Graph::~Graph() {
  if (state_ == nullptr || state_->graph == nullptr) return;
  cudaSetDevice(state_->device->index());
  cudaGraphExecDestroy(state_->graph);
}

Stream::Stream(Device& device) : device_(device), overlaps_grids_(may_overlap_grids(device)), state_(new State) {
  const OnDevice on_device(device);
  check(cudaStreamCreateWithFlags(&state_->stream, cudaStreamNonBlocking), device, "cudaStreamCreateWithFlags");
}

Stream::~Stream() {
  cudaSetDevice(device_.index());
  cudaStreamDestroy(state_->stream);
}

void Stream::copy_to_device(void* to, const void* from, size_t bytes) {
  const OnDevice on_device(device_);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, state_->stream), device_, "a copy to the device");
}

void Stream::copy_to_host(void* to, const void* from, size_t bytes) {
  const OnDevice on_device(device_);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, state_->stream), device_, "a copy to the host");
}

void Stream::copy(void* to, const void* from, size_t bytes) {
  const OnDevice on_device(device_);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, state_->stream), device_, "a copy on the device");
}

void Stream::copy_from(const Device& peer, void* to, const void* from, size_t bytes) {
  const OnDevice on_device(device_);
  device_.can_access(peer);  // enables peer access if possible
  check(cudaMemcpyPeerAsync(to, device_.index(), from, peer.index(), bytes, state_->stream), device_,
        "a copy from a peer");
}

void Stream::fill(void* to, uint8_t value, size_t bytes) {
  const OnDevice on_device(device_);
  check(cudaMemsetAsync(to, value, bytes, state_->stream), device_, "a fill");
}

void Stream::record(Event& event) {
  const OnDevice on_device(device_);
  check(cudaEventRecord(event.state().event, state_->stream), device_, "cudaEventRecord");
}

void Stream::wait(const Event& event) {
  const OnDevice on_device(device_);
  check(cudaStreamWaitEvent(state_->stream, event.state().event, 0), device_, "cudaStreamWaitEvent");
}

void Stream::synchronize() {
  const OnDevice on_device(device_);
  check(cudaStreamSynchronize(state_->stream), device_, "cudaStreamSynchronize");
}

void Stream::begin_capture() {
  const OnDevice on_device(device_);
  check(cudaStreamBeginCapture(state_->stream, cudaStreamCaptureModeThreadLocal), device_, "cudaStreamBeginCapture");
}

Graph Stream::end_capture() {
  const OnDevice on_device(device_);
  cudaGraph_t recorded = nullptr;
  check(cudaStreamEndCapture(state_->stream, &recorded), device_, "cudaStreamEndCapture");
  Graph graph;
  graph.state().device = &device_;
  const cudaError_t error = cudaGraphInstantiate(&graph.state().graph, recorded, 0);
  cudaGraphDestroy(recorded);
  check(error, device_, "cudaGraphInstantiate");
  return graph;
}

void Stream::abandon_capture() noexcept {
  cudaSetDevice(device_.index());
  cudaGraph_t recorded = nullptr;
  cudaStreamEndCapture(state_->stream, &recorded);
  if (recorded != nullptr) cudaGraphDestroy(recorded);
  cudaGetLastError();  // the failed capture has already been reported
}

void Stream::launch(const Graph& graph) {
  const OnDevice on_device(device_);
  if (graph.state().graph == nullptr) {
    throw Error("INTERNAL", "An empty graph cannot be launched on " + device_.name() + ".");
  }
  check(cudaGraphLaunch(graph.state().graph, state_->stream), device_, "cudaGraphLaunch");
}

}  // namespace billfish::BILLFISH_TARGET
