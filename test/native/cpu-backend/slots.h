// Rotary frequencies of the model beside this file.
#pragma once
constexpr float kInvFreq[] = {1.0f, 0.5f};
