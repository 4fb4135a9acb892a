#include "exports.h"

#include "convert.h"
#include "cpu/kernels.h"
#include "engine/available_cores.h"
#include "platform/code_architecture.h"
#include "platform/cublas_library.h"
#include "platform/device_discovery.h"
#include "platform/nccl_library.h"

namespace billfish {

static Napi::String compute_capability(Napi::Env env, int major, int minor) {
  return Napi::String::New(env, std::to_string(major) + "." + std::to_string(minor));
}

// The code that this build runs there, next to what the device supports.
static void describe_code(Napi::Object object, int code, int major, int minor) {
  const Napi::Env env = object.Env();
  object["computeCapability"] = compute_capability(env, major, minor);
  object["codeArchitecture"] = code == 0 ? env.Null() : Napi::Value(compute_capability(env, code / 10, code % 10));
  const std::string notice = explain_code_architecture(code, 10 * major + minor);
  object["codeNotice"] = notice.empty() ? env.Null() : Napi::Value(Napi::String::New(env, notice));
}

static Napi::Value text_or_null(Napi::Env env, const std::string& text) {
  return text.empty() ? env.Null() : Napi::Value(Napi::String::New(env, text));
}

static Napi::Object cuda_device_object(Napi::Env env, const CudaDevice& device) {
  Napi::Object object = Napi::Object::New(env);
  object["device"] = Napi::String::New(env, "cuda:" + std::to_string(device.index));
  object["name"] = Napi::String::New(env, device.name);
  describe_code(object, device.code_architecture, device.compute_major, device.compute_minor);
  object["totalBytes"] = Napi::Number::New(env, static_cast<double>(device.total_bytes));
  object["freeBytes"] = Napi::Number::New(env, static_cast<double>(device.free_bytes));
  object["hasContext"] = Napi::Boolean::New(env, device.has_context);
  object["problem"] = text_or_null(env, device.problem);
  object["multiprocessors"] = Napi::Number::New(env, device.multiprocessors);
  object["l2Bytes"] = Napi::Number::New(env, static_cast<double>(device.l2_bytes));
  object["pciBusId"] = Napi::String::New(env, device.pci_bus_id);
  return object;
}

static Napi::Value version_or_null(Napi::Env env, int version) {
  if (version == 0) return env.Null();
  return Napi::String::New(env, cuda_version_text(version));
}

// A library that is used where it is installed. Where no GPU can use it, it is not looked for (`find` is not called).
template <class Library>
static Napi::Object library_object(Napi::Env env, const CudaReport& report, const Library& (*find)(),
                                   std::string (*version_text)(int)) {
  Napi::Object object = Napi::Object::New(env);
  object["library"] = env.Null();
  object["version"] = env.Null();
  if (report.status != CudaStatus::available) {
    object["reason"] = Napi::String::New(env, "there is no CUDA device to use it.");
    return object;
  }
  const Library& library = find();
  if (library.reason.empty()) {
    object["library"] = text_or_null(env, library.path);
    object["version"] = text_or_null(env, version_text(library.version));
  }
  object["reason"] = text_or_null(env, library.reason);
  return object;
}

// devices(): {
//   devices: [{device: 'cuda:0', name, computeCapability, codeArchitecture: string | null, codeNotice: string | null,
//              totalBytes, freeBytes, hasContext, problem: string | null,
//              multiprocessors, l2Bytes, pciBusId}],
//   cuda: {compiled, available, reason: string | null, driverVersion: string | null, runtimeVersion: string | null,
//          cublas: {library: string | null, version: string | null, reason: string | null}, nccl: the same},
//   cpu: {cores, instructionSet}
// }
static Napi::Object devices_object(Napi::Env env, const CudaReport& report) {
  Napi::Array list = Napi::Array::New(env, report.devices.size());
  for (uint32_t i = 0; i < report.devices.size(); ++i) list[i] = cuda_device_object(env, report.devices[i]);

  Napi::Object cuda = Napi::Object::New(env);
  const std::string reason = explain(report);
  cuda["compiled"] = Napi::Boolean::New(env, report.status != CudaStatus::not_compiled);
  cuda["available"] = Napi::Boolean::New(env, report.status == CudaStatus::available);
  cuda["reason"] = text_or_null(env, reason);
  cuda["driverVersion"] = version_or_null(env, report.driver_version);
  cuda["runtimeVersion"] = version_or_null(env, report.runtime_version);
  cuda["cublas"] = library_object(env, report, cublas_library, cublas_version_text);
  cuda["nccl"] = library_object(env, report, nccl_library, nccl_version_text);

  Napi::Object cpu = Napi::Object::New(env);
  cpu["cores"] = Napi::Number::New(env, available_cores());
  cpu["instructionSet"] = Napi::String::New(env, cpu::name(cpu::instruction_set()));

  Napi::Object result = Napi::Object::New(env);
  result["devices"] = list;
  result["cuda"] = cuda;
  result["cpu"] = cpu;
  return result;
}

static Napi::Value devices(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return devices_object(info.Env(), discover_cuda_devices()); });
}

// discoverDevices(): a promise of the same. The question is asked on a thread of Node.js's pool.
class Discovery final : public Napi::AsyncWorker {
 public:
  explicit Discovery(Napi::Env env) : AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override {
    report_ = discover_cuda_devices();
    if (report_.status != CudaStatus::available) return;
    cublas_library();  // loading them reads hundreds of megabytes
    nccl_library();
  }
  void OnOK() override {
    try {
      deferred_.Resolve(guarded(Env(), [&] { return devices_object(Env(), report_); }));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    }
  }
  void OnError(const Napi::Error& error) override {
    deferred_.Reject(to_javascript(Env(), Error("INTERNAL", error.Message())).Value());
  }

 private:
  Napi::Promise::Deferred deferred_;
  CudaReport report_;
};

static Napi::Value discover_devices(const Napi::CallbackInfo& info) {
  auto* const discovery = new Discovery(info.Env());  // deletes itself when done
  discovery->Queue();
  return discovery->promise();
}

// emulatedDevices(): [{device: 'emulated:0', computeCapability, codeArchitecture, codeNotice, totalBytes, freeBytes,
// multiprocessors}]
static Napi::Value emulated_devices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array list = Napi::Array::New(env);
  guarded(env, [&] {
    for (const EmulatedDevice& device : list_emulated_devices()) {
      Napi::Object object = Napi::Object::New(env);
      object["device"] = Napi::String::New(env, device.name);
      describe_code(object, device.code_architecture, device.compute_major, device.compute_minor);
      object["totalBytes"] = Napi::Number::New(env, static_cast<double>(device.total_bytes));
      object["freeBytes"] = Napi::Number::New(env, static_cast<double>(device.free_bytes));
      object["multiprocessors"] = Napi::Number::New(env, device.multiprocessors);
      list[list.Length()] = object;
    }
  });
  return list;
}

// testCudaDevice(index): runs a kernel there; throws an Error with `code` when that does not work.
static void test_device(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { test_cuda_device(static_cast<int>(to_integer(info[0], "index", 0, 1023))); });
}

void init_devices(Napi::Env env, Napi::Object exports) {
  exports["devices"] = Napi::Function::New(env, devices, "devices");
  exports["discoverDevices"] = Napi::Function::New(env, discover_devices, "discoverDevices");
  exports["emulatedDevices"] = Napi::Function::New(env, emulated_devices, "emulatedDevices");
  exports["noEmulator"] = text_or_null(env, explain_emulator());
  exports["testCudaDevice"] = Napi::Function::New(env, test_device, "testCudaDevice");
}

}  // namespace billfish
