/* 256-bit vectors and fused products: every x86 processor since about 2015. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors only ever pass between inlined functions */
#pragma GCC target("avx2,fma")
#endif

#define USE_AVX2
#include "children.h"
#include "step.h"

void step_avx2(Model *model, const Call *call) { step(model, call); }
int children_avx2(Children *children) { return find_children(children); }

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
