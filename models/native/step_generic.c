/* For any processor. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors only ever pass between inlined functions */
#endif
#include "children.h"
#include "step.h"

void step_generic(Model *model, const Call *call) { step(model, call); }
int children_generic(Children *children) { return find_children(children); }
