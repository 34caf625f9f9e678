/* From tokens to log-probabilities; each set of instructions compiles this for itself. */
#include "output.h"
#include "recurrent.h"
#include "transformer.h"

static void step(Model *model, const Call *call) {
    int tokens = 0;
    for (int i = 0; i < call->texts; i++) tokens += call->lengths[i];
    int *row_of = arena_take(&model->arena, (size_t)tokens * sizeof(int));
    const float *features;
    if (model->sizes.kind == TRANSFORMER) {
        for (int i = 0; i < tokens; i++) row_of[i] = i;
        features = read_transformer(model, call, tokens);
    } else {
        Rows rows = order_rows(&model->arena, call);
        for (int i = 0, token = 0; i < call->texts; i++)
            for (int t = 0; t < call->lengths[i]; t++)
                row_of[token++] = rows.first[t] + rows.ranks[i];
        features = read_recurrent(model, call, &rows);
    }
    write_outputs(model, call, features, row_of);
}
