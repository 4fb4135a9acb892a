#include "devices.h"

#include "convert.h"
#include "cpu/features.h"
#include "engine/available_cores.h"
#include "engine/cublas_library.h"
#include "engine/device_discovery.h"

namespace billfish {

static Napi::String compute_capability(Napi::Env env, int major, int minor) {
  return Napi::String::New(env, std::to_string(major) + "." + std::to_string(minor));
}

static Napi::Object cuda_device_object(Napi::Env env, const CudaDevice& device) {
  Napi::Object object = Napi::Object::New(env);
  object["device"] = Napi::String::New(env, "cuda:" + std::to_string(device.index));
  object["name"] = Napi::String::New(env, device.name);
  object["computeCapability"] = compute_capability(env, device.compute_major, device.compute_minor);
  object["totalBytes"] = Napi::Number::New(env, static_cast<double>(device.total_bytes));
  object["freeBytes"] = Napi::Number::New(env, static_cast<double>(device.free_bytes));
  object["multiprocessors"] = Napi::Number::New(env, device.multiprocessors);
  object["l2Bytes"] = Napi::Number::New(env, static_cast<double>(device.l2_bytes));
  object["pciBusId"] = Napi::String::New(env, device.pci_bus_id);
  return object;
}

static Napi::Value version_or_null(Napi::Env env, int version) {
  if (version == 0) return env.Null();
  return Napi::String::New(env, cuda_version_text(version));
}

// Where no GPU can use it, it is not looked for.
static Napi::Object cublas_object(Napi::Env env, const CudaReport& report) {
  const auto text_or_null = [&](const std::string& text) {
    return text.empty() ? env.Null() : Napi::Value(Napi::String::New(env, text));
  };
  Napi::Object object = Napi::Object::New(env);
  object["library"] = env.Null();
  object["version"] = env.Null();
  if (report.status != CudaStatus::available) {
    object["reason"] = Napi::String::New(env, "there is no CUDA device to use it.");
    return object;
  }
  const CublasLibrary& library = cublas_library();
  if (library.reason.empty()) {
    object["library"] = text_or_null(library.path);
    object["version"] = text_or_null(cublas_version_text(library.version));
  }
  object["reason"] = text_or_null(library.reason);
  return object;
}

// devices(): {
//   devices: [{device: 'cuda:0', name, computeCapability, totalBytes, freeBytes, multiprocessors, l2Bytes, pciBusId}],
//   cuda: {compiled, available, reason: string | null, driverVersion: string | null, runtimeVersion: string | null,
//          cublas: {library: string | null, version: string | null, reason: string | null}},
//   cpu: {cores, instructionSet}
// }
static Napi::Value devices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const CudaReport report = discover_cuda_devices();

  Napi::Array list = Napi::Array::New(env, report.devices.size());
  for (uint32_t i = 0; i < report.devices.size(); ++i) list[i] = cuda_device_object(env, report.devices[i]);

  Napi::Object cuda = Napi::Object::New(env);
  const std::string reason = explain(report);
  cuda["compiled"] = Napi::Boolean::New(env, report.status != CudaStatus::not_compiled);
  cuda["available"] = Napi::Boolean::New(env, report.status == CudaStatus::available);
  cuda["reason"] = reason.empty() ? env.Null() : Napi::Value(Napi::String::New(env, reason));
  cuda["driverVersion"] = version_or_null(env, report.driver_version);
  cuda["runtimeVersion"] = version_or_null(env, report.runtime_version);
  cuda["cublas"] = cublas_object(env, report);

  Napi::Object cpu = Napi::Object::New(env);
  cpu["cores"] = Napi::Number::New(env, available_cores());
  cpu["instructionSet"] = Napi::String::New(env, cpu::name(cpu::instruction_set()));

  Napi::Object result = Napi::Object::New(env);
  result["devices"] = list;
  result["cuda"] = cuda;
  result["cpu"] = cpu;
  return result;
}

// emulatedDevices(): [{device: 'emulated:0', computeCapability, totalBytes, freeBytes, multiprocessors}]
static Napi::Value emulated_devices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array list = Napi::Array::New(env);
  guarded(env, [&] {
    for (const EmulatedDevice& device : list_emulated_devices()) {
      Napi::Object object = Napi::Object::New(env);
      object["device"] = Napi::String::New(env, device.name);
      object["computeCapability"] = compute_capability(env, device.compute_major, device.compute_minor);
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
  exports["emulatedDevices"] = Napi::Function::New(env, emulated_devices, "emulatedDevices");
  exports["testCudaDevice"] = Napi::Function::New(env, test_device, "testCudaDevice");
}

}  // namespace billfish
