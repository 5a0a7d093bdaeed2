// Hand-written stand-in for a generated slots.h: what backend.cpp reads of it.
#pragma once

constexpr char kHash[] = "standin";
constexpr float kInvFreq[64] = {1.0f};
constexpr int kRotatedPairs = 2;
constexpr float kRotatedSize = 1.5f;
