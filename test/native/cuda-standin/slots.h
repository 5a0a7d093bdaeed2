// Hand-written stand-in for a generated slots.h: what backend.cpp reads of it.
#pragma once
#include "model.h"

constexpr char kHash[] = "standin";
constexpr float kInvFreq[kHeadDim / 2] = {1.0f};
