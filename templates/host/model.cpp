// The facts of the model, from its header.
#include "model.h"

#include <iterator>

#include "model_facts.h"

extern const ModelFacts kModel{kVocab, kPassTokens, kWeightBytes, kHash, kSlots, static_cast<int32_t>(std::size(kSlots))};
