# Kernel templates are instantiated in generated sources, one for each kernel, element type and kind of codes, so that
# they compile in parallel. billfish_kernel_instances(VARIABLE) sets VARIABLE to these sources.
function(billfish_kernel_instances variable)
  set(sources)
  macro(generate name)
    configure_file(${PROJECT_SOURCE_DIR}/cuda/instance.cu.in ${PROJECT_BINARY_DIR}/instances/${name}.cu @ONLY)
    list(APPEND sources ${PROJECT_BINARY_DIR}/instances/${name}.cu)
  endmacro()

  set(gemm_arguments "(Stream&, const GemmLaunch&, const GemmArguments&)")
  set(grouped_arguments "(Stream&, const GemmLaunch&, const GroupedArguments&)")
  foreach(element half bfloat16)
    set(HEADER gemm/grouped_gemm.h)
    string(CONCAT INSTANCES
      "template void launch_grouped_gemm<${element}, 16, CodeKind::centered>${grouped_arguments};\n"
      "template void launch_grouped_gemm<${element}, 8, CodeKind::centered>${grouped_arguments};\n"
      "template void launch_grouped_gemm<${element}, 8, CodeKind::zero_points>${grouped_arguments};")
    generate(grouped_gemm_${element}_8)
    string(CONCAT INSTANCES
      "template void launch_grouped_gemm<${element}, 4, CodeKind::centered>${grouped_arguments};\n"
      "template void launch_grouped_gemm<${element}, 4, CodeKind::zero_points>${grouped_arguments};")
    generate(grouped_gemm_${element}_4)
    set(INSTANCES "template void launch_grouped_gemm<${element}, 8, CodeKind::e4m3>${grouped_arguments};")
    generate(grouped_gemm_${element}_e4m3)
    set(INSTANCES "template void launch_grouped_gemm<${element}, 4, CodeKind::e2m1>${grouped_arguments};")
    generate(grouped_gemm_${element}_e2m1)
    set(HEADER gemm/staged_gemm.h)
    set(INSTANCES "template void launch_gemm<${element}, 16, CodeKind::centered>${gemm_arguments};")
    generate(staged_gemm_${element}_16)
    foreach(kernel staged bulk)
      string(REPLACE staged_ "" function launch_${kernel}_gemm)
      set(HEADER gemm/${kernel}_gemm.h)
      foreach(bits 4 8)
        string(CONCAT INSTANCES
          "template void ${function}<${element}, ${bits}, CodeKind::centered>${gemm_arguments};\n"
          "template void ${function}<${element}, ${bits}, CodeKind::zero_points>${gemm_arguments};")
        generate(${kernel}_gemm_${element}_${bits})
      endforeach()
      set(INSTANCES "template void ${function}<${element}, 8, CodeKind::e4m3>${gemm_arguments};")
      generate(${kernel}_gemm_${element}_e4m3)
      set(INSTANCES "template void ${function}<${element}, 4, CodeKind::e2m1>${gemm_arguments};")
      generate(${kernel}_gemm_${element}_e2m1)
    endforeach()

    set(HEADER layer/attention_launch.h)
    string(CONCAT INSTANCES
      "template void attention(Stream&, const DeviceBatch&, int32_t, const Matrix<const ${element}>&,\n"
      "                        const KvCache<${element}>&, float, void*, const Matrix<${element}>&);")
    generate(attention_${element})
  endforeach()
  set(${variable} ${sources} PARENT_SCOPE)
endfunction()
