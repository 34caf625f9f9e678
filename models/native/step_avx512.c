/* 512-bit vectors with sums of products of bytes. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors only ever pass between inlined functions */
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#endif

#define USE_AVX512
#include "children.h"
#include "step.h"

void step_avx512(Model *model, const Call *call) { step(model, call); }
int children_avx512(Children *children) { return find_children(children); }

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
