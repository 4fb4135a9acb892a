#include "engine/stage.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

#include "engine/error.h"
#include "engine/overloaded.h"
#include "engine/stage_allocations.h"
#include "engine/worker_ranks.h"

namespace billfish {
namespace {

ValueBytes value_bytes(const Backend& backend) {
  const auto of = [&](ValueClass kind) { return static_cast<int64_t>(byte_size(backend.value_type(kind))); };
  return {of(ValueClass::activation), of(ValueClass::residual), of(ValueClass::logits)};
}

// Work that has already been waited for.
class Settled final : public StageWork {
 public:
  explicit Settled(const StageInterval& interval) : interval_(interval) {}
  StageInterval settle() override { return interval_; }

 private:
  StageInterval interval_;
};

}  // namespace

Stage::Stage(std::unique_ptr<Backend> backend, Program program, std::vector<WeightShape> shapes,
             const StageLimits& limits, StageRank rank)
    : backend_(std::move(backend)),
      program_(std::move(program)),
      shapes_(std::move(shapes)),
      limits_(limits),
      rank_(std::move(rank)) {
  validate(program_, shapes_);
  places_ = place_values(program_, value_bytes(*backend_));
  backend_->prepare(program_, shapes_, limits_);
  weights_.resize(shapes_.size());
  const StageAllocations needs =
      stage_allocations({program_, shapes_, limits_, is_first_rank()}, places_, backend_->cache_type());
  const auto buffer = [&](uint64_t bytes) {
    return static_cast<uint8_t*>(bytes > 0 ? backend_->allocate(bytes, MemoryUse::buffers) : nullptr);
  };
  token_arena_ = buffer(needs.token_arena);
  logit_arena_ = buffer(needs.logit_arena);
  for (size_t i = 0; i < needs.caches.size(); ++i) {
    const CacheLayer& layer = program_.cache_layers[i];
    const uint64_t bytes = needs.caches[i];
    void* keys = backend_->allocate(bytes, MemoryUse::kv_cache);
    void* values = backend_->allocate(bytes, MemoryUse::kv_cache);
    caches_.push_back({keys, values, limits_.block_size, layer.kv_heads, layer.head_dim});
  }
  for (size_t i = 0; i < needs.states.size(); ++i) {
    auto* const data = static_cast<float*>(backend_->allocate(needs.states[i], MemoryUse::states));
    states_.push_back({data, program_.state_layers[i].width});
  }

  head_ = std::find_if(program_.operators.cbegin(), program_.operators.cend(), [&](const Operator& op) {
    bool found = false;
    for_each_value(op, [&](ValueId id, bool) { found |= program_.values[id].rows == RowKind::logits; });
    return found;
  });
  sends_hidden_ = is_first_rank() && program_.hands_over;
  if (!is_first_rank()) return;
  for (const uint64_t bytes : needs.links) {
    auto* const link = static_cast<float*>(backend_->allocate_host(bytes));
    links_.push_back(std::make_shared<Link>(link, limits_.max_rows, rank_.group ? rank_.group->ranks() : 1));
  }
  hidden_width_ = needs.hidden_width;
  if (needs.hidden > 0) hidden_ = static_cast<float*>(backend_->allocate_host(needs.hidden));
  if (!sends_hidden_) requests_.reserve(static_cast<size_t>(limits_.max_logit_rows));
}

Stage::~Stage() {
  if (workers_) rank_.group->set_link(nullptr);  // it uses the ranks' streams
}

void Stage::attach_workers(std::vector<std::unique_ptr<Stage>> workers) {
  std::vector<const Program*> programs = {&program_};
  std::vector<Backend*> backends = {backend_.get()};
  for (const auto& worker : workers) {
    programs.push_back(&worker->program_);
    backends.push_back(worker->backend_.get());
    worker->links_ = links_;
  }
  validate_ranks(programs);
  rank_.group->set_backends(backends);
  workers_ = std::make_unique<WorkerRanks>(std::move(workers));
  rank_.group->set_link(backend_->link(backends));  // last, so that it is destroyed before the workers
}

void Stage::attach_branches(std::vector<std::unique_ptr<Stage>> branches) {
  if (branches.size() != links_.size()) {
    throw Error("INTERNAL", std::to_string(links_.size()) + " links of a stage have " +
                                std::to_string(branches.size()) + " branches.");
  }
  for (size_t i = 0; i < links_.size(); ++i) {
    validate_link(program_, static_cast<int32_t>(i), branches[i]->program_);
    branches[i]->links_ = {links_[i]};
    std::vector<std::unique_ptr<Stage>> one;
    one.push_back(std::move(branches[i]));
    branches_.push_back(std::make_unique<WorkerRanks>(std::move(one)));
  }
}

std::vector<Stage*> Stage::companions() const {
  std::vector<Stage*> all;
  const auto add = [&](const WorkerRanks& ranks) {
    for (const auto& stage : ranks.stages()) all.push_back(stage.get());
  };
  if (workers_) add(*workers_);
  for (const auto& branch : branches_) add(*branch);
  return all;
}

// Those that this rank meets others in.
std::vector<RankGroup*> Stage::groups() const {
  std::vector<RankGroup*> all;
  if (rank_.group) all.push_back(rank_.group.get());
  for (const auto& link : links_) all.push_back(&link->ends);
  return all;
}

void Stage::join(const std::shared_ptr<ActivationBuffers>& activation_buffers) {
  if (hidden_ == nullptr) return;
  activation_buffers->add(hidden_, hidden_width_);
  activation_buffers_ = activation_buffers;
}

Tensor Stage::tensor(ValueId id) const {
  const Value& value = program_.values[id];
  const Place& place = places_.of_value[id];
  const bool tokens = value.rows == RowKind::tokens;
  const int32_t capacity = tokens ? limits_.max_rows : limits_.max_logit_rows;
  Tensor t;
  t.type = backend_->value_type(value.kind);
  t.rows = tokens ? token_rows_ : logit_rows_;
  t.columns = value.width;
  t.stride = place.stride / static_cast<int64_t>(byte_size(t.type));
  t.data = (tokens ? token_arena_ : logit_arena_) + static_cast<size_t>(place.offset) * capacity +
           static_cast<size_t>(value.view_start) * byte_size(t.type);
  return t;
}

void Stage::check_not_cancelled(const Step& step) const {
  if (step.cancelled.load(std::memory_order_relaxed)) throw Error("ABORTED", "The step was aborted.");
}

void Stage::admit(Step& step) {
  if (sends_hidden_ && step.hidden.data() == nullptr) step.hidden = activation_buffers_->acquire();
}

std::unique_ptr<StageWork> Stage::run(Step& step) {
  ActivationBuffers::Buffer hidden = std::move(step.hidden);
  step.found.clear();
  step.found.resize(step.search ? 1 + companions().size() : 0);
  if (!workers_ && branches_.empty()) return compute(step, hidden, hidden.data());
  std::unique_ptr<StageWork> work;
  const std::vector<RankGroup*> groups = this->groups();
  for (RankGroup* group : groups) group->begin();
  if (workers_) workers_->start(step, hidden.data());
  for (const auto& branch : branches_) branch->start(step, nullptr);
  try {
    work = compute(step, hidden, hidden.data());
    // With a link the other devices wait for this one, so its failure must be known before they are waited for.
    if (work && rank_.group && rank_.group->link() != nullptr) work = std::make_unique<Settled>(work->settle());
  } catch (...) {
    for (RankGroup* group : groups) group->fail(std::current_exception());
  }
  if (workers_) workers_->wait();
  for (const auto& branch : branches_) branch->wait();
  end_all(groups);
  if (step.search && workers_) report_search(step);
  return work;
}

void Stage::run_as_worker(Step& step, const float* hidden) {
  ActivationBuffers::Buffer none;
  try {
    if (const auto work = compute(step, none, hidden)) work->settle();
  } catch (...) {
    const std::exception_ptr reason = std::current_exception();
    backend_->drain();  // nothing of a failed step keeps running
    for (RankGroup* group : groups()) group->fail(reason);
  }
}

std::unique_ptr<StageWork> Stage::compute(Step& step, ActivationBuffers::Buffer& hidden, const float* input) {
  token_rows_ = step.batch.rows();
  first_logit_row_ = 0;
  logit_rows_ = std::min<int64_t>(limits_.max_logit_rows, static_cast<int64_t>(step.batch.logit_rows.size()));
  if (!is_handed_over_in_chunks(step, program_.input)) {
    receive_input(step, input);  // first, so that what was sent is received even if something fails
    if (!sends_hidden_) hidden.release();
  }
  if (is_decode(step)) {
    run_decode(step);
  } else {
    backend_->begin(step.batch, program_.ropes);
    execute(program_.operators.begin(), head_, step);
    run_head(step, input, hidden.data());
    const bool found_all = !rank_.group && !is_branch();  // branches have, before they sent what came back
    if (step.search && found_all) report_search(step);    // before anything is sent on
  }
  std::unique_ptr<StageWork> work = backend_->end();
  if (sends_hidden_) {
    if (!is_handed_over_in_chunks(step, program_.output)) send_hidden(step, hidden.data());
    step.hidden = std::move(hidden);  // later stages may need it, even if it is empty
  }
  return work;
}

// Where a value's current rows begin in those of the step.
int64_t Stage::first_row_of(ValueId id) const {
  return program_.values[id].rows == RowKind::logits ? first_logit_row_ : 0;
}

// Logit rows that are more than run_head() computes at a time go from one stage to the next as it computes them.
bool Stage::is_handed_over_in_chunks(const Step& step, ValueId id) const {
  return id != no_value && program_.values[id].rows == RowKind::logits &&
         step.batch.logit_rows.size() > static_cast<size_t>(limits_.max_logit_rows);
}

// One token per sequence, nothing requested between operators, and where there are logit rows all of them at once. All
// ranks agree, and so do the branches that have logit rows.
bool Stage::is_decode(const Step& step) const {
  const auto rows = static_cast<size_t>(step.batch.rows());
  if (step.batch.sequences.size() != rows || step.want_hidden_states || step.search) return false;
  return !has_head() || (step.batch.logit_rows.size() == rows && rows <= static_cast<size_t>(limits_.max_logit_rows));
}

void Stage::run_decode(Step& step) {
  check_not_cancelled(step);  // a recorded step does not check
  const int64_t max_rows = has_head() ? std::min(limits_.max_rows, limits_.max_logit_rows) : limits_.max_rows;
  token_rows_ = logit_rows_ = backend_->begin_decode(step.batch, program_.ropes, max_rows);
  const auto end = program_.operators.cend();
  size_t parts = 0;
  for (auto first = program_.operators.cbegin(); first != end;) {
    const auto exchange = std::find_if(first, end, is_exchange);
    const auto operators = [&] { execute(first, exchange, step); };
    if (first != exchange) backend_->run_part(parts++, std::ref(operators));
    if (exchange != end) execute(*exchange, step);
    first = exchange == end ? end : exchange + 1;
  }
  token_rows_ = logit_rows_ = step.batch.rows();
  if (is_first_rank() && has_head() && !sends_hidden_) collect_results(step);
}

void Stage::receive_input(Step& step, const float* hidden) {
  if (program_.input != no_value) {
    const Tensor input = tensor(program_.input);
    Backend* const sender = is_first_rank() ? std::exchange(step.sender, nullptr) : nullptr;
    if (sender != nullptr) {
      backend_->receive_from_peer(*sender, input);
    } else if (input.rows > 0) {
      backend_->from_host(hidden + first_row_of(program_.input) * input.columns, input);
    }
  }
  if (rank_.group) rank_.group->barrier();  // all ranks have read the input: its buffer may be overwritten
}

void Stage::send_hidden(Step& step, float* hidden) {
  const Tensor output = tensor(program_.output);
  if (output.rows == 0) return;
  if (sends_to_peer_ && !is_handed_over_in_chunks(step, program_.output) && backend_->send_to_peer(output)) {
    step.sender = backend_.get();
  } else {
    backend_->to_host(output, hidden + first_row_of(program_.output) * output.columns);
  }
}

// In chunks of at most max_logit_rows rows, so that the logits of a whole prompt need no prompt x vocabulary buffer on
// the device.
void Stage::run_head(Step& step, const float* input, float* hidden) {
  if (!has_head()) return;
  const bool receives = is_handed_over_in_chunks(step, program_.input);
  const bool sends = sends_hidden_ && is_handed_over_in_chunks(step, program_.output);
  const int64_t wanted = static_cast<int64_t>(step.batch.logit_rows.size());
  for (int64_t first = 0; first < wanted; first += logit_rows_) {
    first_logit_row_ = first;
    logit_rows_ = std::min<int64_t>(limits_.max_logit_rows, wanted - first);
    if (receives) receive_input(step, input);
    execute(head_, program_.operators.end(), step);
    if (sends) send_hidden(step, hidden);
    if (is_first_rank() && !sends_hidden_) collect_results(step);
  }
}

// For the current logit rows.
void Stage::collect_results(Step& step) {
  const int64_t vocabulary = program_.values[program_.output].width;
  const Tensor output = tensor(program_.output);
  std::vector<int32_t>& non_finite = step.result.non_finite_rows;
  if (step.want_logits) {
    step.result.logits.resize(step.batch.logit_rows.size() * static_cast<size_t>(vocabulary));
    float* const logits = step.result.logits.data() + first_logit_row_ * vocabulary;
    backend_->to_host(output, logits);
    for (int64_t r = 0; r < logit_rows_; ++r) {
      const bool is_finite = all_finite(logits + r * vocabulary, static_cast<size_t>(vocabulary));
      if (!is_finite) non_finite.push_back(static_cast<int32_t>(first_logit_row_ + r));
    }
  }
  requests_.clear();
  for (int64_t r = 0; r < logit_rows_; ++r) {
    auto& request = step.sampling[static_cast<size_t>(first_logit_row_ + r)];
    if (request && request->constraint) request->parameters.allowed = request->constraint->allowed();
    requests_.push_back(request ? &request->parameters : nullptr);
  }
  const bool any = std::any_of(requests_.begin(), requests_.end(), [](const auto* p) { return p != nullptr; });
  if (!any) return;
  size_t sample = step.result.samples.size();
  backend_->sample(output, requests_, step.result.samples);
  for (int64_t r = 0; r < logit_rows_; ++r) {
    if (requests_[static_cast<size_t>(r)] == nullptr) continue;
    const bool is_finite = step.result.samples[sample++].token != Sampled::non_finite;
    if (!is_finite && !step.want_logits) non_finite.push_back(static_cast<int32_t>(first_logit_row_ + r));
  }
}

void Stage::execute(OperatorIterator first, OperatorIterator last, Step& step) {
  for (; first != last; ++first) {
    check_not_cancelled(step);
    execute(*first, step);
    if (step.search) search(first, step);
  }
}

void Stage::execute(const Operator& op, Step& step) {
  std::visit(Overloaded{
                 [&](const auto& o) { backend_->run(bind(o)); },
                 [&](const Tap& o) { tap(o, step); },
                 [&](const AllReduce& o) {
                   publish(o.x, o.out);
                   backend_->all_reduce(*rank_.group, rank_.rank);
                   release();
                 },
                 [&](const AllGather& o) {
                   publish(o.x, o.out, &o.pieces);
                   backend_->all_gather(*rank_.group, rank_.rank);
                   release();
                 },
                 [&](const Send& o) {
                   if (step.search && is_first_rank()) links_[o.link]->order = order_of(op);
                   send(o, step);
                 },
                 [&](const Receive& o) { receive(o, step); },
             },
             op);
}

// The operator with its operands in memory. Valid until the next one.
template <class Op>
Call<Op> Stage::bind(const Op& op) {
  Call<Op> call = {};
  for_each_field(op, call, [&](const auto& field, const auto& from, auto& to) {
    constexpr FieldKind kind = kind_of<decltype(field)>;
    if constexpr (kind == FieldKind::value) {
      if (is_given(from)) to = tensor(from);
    } else if constexpr (kind == FieldKind::weight) {
      if (is_given(from)) to = weights_[from].get();
    } else if constexpr (kind == FieldKind::cache_layer) {
      to = caches_[from];
    } else if constexpr (kind == FieldKind::state_layer) {
      to = states_[from];
    } else if constexpr (kind == FieldKind::first_logit_row) {
      to = first_logit_row_;
    } else if constexpr (kind == FieldKind::list) {
      targets_.clear();
      for (const auto& element : from) targets_.push_back(bind(element));
      to = targets_;
    } else {
      to = from;
    }
  });
  return call;
}

void Stage::tap(const Tap& op, Step& step) {
  if (!step.want_hidden_states) return;
  const Tensor x = tensor(op.x);
  auto& states = step.result.hidden_states;
  if (states.size() <= static_cast<size_t>(op.index)) states.resize(op.index + 1);
  std::vector<float>& rows = states[op.index];
  rows.resize(static_cast<size_t>(token_rows_ * x.columns));
  if (program_.values[op.x].rows == RowKind::tokens) {
    backend_->to_host(x, rows.data());
    return;
  }
  std::vector<float> wanted(static_cast<size_t>(x.rows * x.columns));
  backend_->to_host(x, wanted.data());
  for (int64_t r = 0; r < x.rows; ++r) {
    const int32_t row = step.batch.logit_rows[static_cast<size_t>(first_logit_row_ + r)];
    std::copy_n(wanted.data() + r * x.columns, x.columns, rows.data() + row * x.columns);
  }
}

// The rows of the batch: a recorded step may have more, which mean nothing. The branch reads them before it sends
// anything back, and every rank reads that before a collective (validate_ranks()) and so before the place is used
// again.
void Stage::send(const Send& op, const Step& step) {
  Link& link = *links_[op.link];
  if (is_first_rank() || is_branch()) {
    Tensor x = tensor(op.x);
    x.rows = std::min<int64_t>(x.rows, step.batch.rows());
    backend_->to_host(x, link.place(op.at));
  }
  link.ends.barrier();
}

void Stage::receive(const Receive& op, const Step& step) {
  Tensor out = tensor(op.out);
  out.rows = std::min<int64_t>(out.rows, step.batch.rows());
  Link& link = *links_[op.link];
  link.ends.barrier();
  backend_->from_host(link.place(op.at), out);
}

void Stage::release() {
  rank_.group->barrier();
  backend_->release(*rank_.group);
}

// The other ranks read x until release().
void Stage::publish(ValueId x, ValueId out, const std::vector<GatheredPiece>* pieces) {
  backend_->publish();
  rank_.group->publish(rank_.rank, {backend_.get(), tensor(x), out == no_value ? Tensor{} : tensor(out), pieces});
  rank_.group->barrier();
}

}  // namespace billfish
