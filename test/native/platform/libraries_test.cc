// Finding cuBLAS and NVML, why they are not found, and what they are asked; with libraries of the tests' own
// (fake_cublas, fake_nvml).
#include "platform/cublas_library.h"

#include <dlfcn.h>

#include <random>
#include <vector>

#include "engine/error.h"
#include "platform/nvml_library.h"
#include "support/check.h"

using namespace billfish;

namespace {

alignas(256) unsigned char workspace[256];
int stream;  // only its address counts

int handles(const CublasLibrary& library) {
  void* const again = dlopen(library.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  const int count = reinterpret_cast<int (*)()>(dlsym(again, "fake_cublas_handles"))();
  dlclose(again);
  return count;
}

void check_product(const CublasHandle& handle, DType type, DType y_type, bool accumulate) {
  constexpr int64_t rows = 5, out = 7, in = 11, x_stride = 13, w_stride = 17, y_stride = 9;
  std::mt19937 random(1);
  const auto small = [&] { return static_cast<float>(static_cast<int>(random() % 9) - 4); };
  const auto narrow = [&](float value) { return type == DType::f16 ? float_to_f16(value) : float_to_bf16(value); };
  std::vector<float> x(rows * x_stride), w(out * w_stride);
  std::vector<uint16_t> x_bits, w_bits;
  for (float& value : x) x_bits.push_back(narrow(value = small()));
  for (float& value : w) w_bits.push_back(narrow(value = small()));
  std::vector<float> y(rows * y_stride, 3);
  std::vector<uint16_t> y_bits(rows * y_stride, narrow(3));
  void* const to = y_type == DType::f32 ? static_cast<void*>(y.data()) : y_bits.data();
  handle.multiply(
      {type, y_type, rows, out, in, x_bits.data(), w_bits.data(), to, x_stride, w_stride, y_stride, accumulate});
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t n = 0; n < y_stride; ++n) {
      float expected = n >= out || accumulate ? 3 : 0;
      for (int64_t k = 0; n < out && k < in; ++k) expected += x[r * x_stride + k] * w[n * w_stride + k];
      if (y_type == DType::f32) CHECK(y[r * y_stride + n] == expected);
      if (y_type != DType::f32) CHECK(y_bits[r * y_stride + n] == narrow(expected));
    }
  }
}

}  // namespace

TEST(cublas_is_found_and_asked_for_the_right_product) {
  const CublasLibrary library = load_cublas(BILLFISH_FAKE_CUBLAS);
  CHECK_MESSAGE(library.reason.empty(), library.reason);
  CHECK(library.version == 990807);
  CHECK(cublas_version_text(library.version) == "99.8.7");
  CHECK(library.path == BILLFISH_FAKE_CUBLAS);
  {
    const CublasHandle handle(library, &stream, workspace, sizeof(workspace));
    for (const DType type : {DType::f16, DType::bf16}) {
      for (const bool accumulate : {false, true}) {
        check_product(handle, type, type, accumulate);
        check_product(handle, type, DType::f32, accumulate);
      }
    }
    CHECK_THROWS(handle.multiply({DType::f16, DType::f16, 1, 8, 8, workspace, workspace, workspace, 8, 7, 8}),
                 "INTERNAL");
    CHECK(handles(library) == 1);
  }
  CHECK_THROWS(CublasHandle(library, &stream, workspace + 1, 16), "INTERNAL");
  CHECK(handles(library) == 0);
}

TEST(cublas_that_is_missing_says_why) {
  CHECK(load_cublas("off").reason == "BILLFISH_CUBLAS is 'off'.");
  const CublasLibrary missing = load_cublas("/nowhere/libcublas.so");
  CHECK(missing.gemm == nullptr);
  CHECK(missing.reason.find("/nowhere/libcublas.so") != std::string::npos);
  const CublasLibrary other = load_cublas("libm.so.6");
  CHECK_MESSAGE(other.reason == "libm.so.6 has no function cublasCreate_v2.", other.reason);
}

constexpr uint64_t gigabyte = 1'000'000'000;

TEST(nvml_reports_the_free_memory_of_a_gpu) {
  for (int i = 0; i < 2; ++i) {  // opened and closed each time
    CHECK(nvml_free_bytes(BILLFISH_FAKE_NVML, "0000:3b:00.0", 79 * gigabyte) == 33 * gigabyte);
  }
}

TEST(nvml_knows_nothing_of_other_gpus_nor_of_a_part_of_one) {
  CHECK(!nvml_free_bytes(BILLFISH_FAKE_NVML, "0000:af:00.0", 79 * gigabyte));
  CHECK(!nvml_free_bytes(BILLFISH_FAKE_NVML, "0000:3b:00.0", 40 * gigabyte));
  CHECK(!nvml_free_bytes(BILLFISH_FAKE_NVML, "0000:3b:00.0", 10 * gigabyte));
}

TEST(nvml_may_be_missing) {
  CHECK(!nvml_free_bytes("libnothing-of-this-name.so.1", "0000:3b:00.0", 79 * gigabyte));
  CHECK(!nvml_free_bytes(BILLFISH_FAKE_CUBLAS, "0000:3b:00.0", 79 * gigabyte));  // a library, and none of its functions
}
