// How host code fails: a status of the ABI and a text for people, thrown inside the library and returned at its boundary.
#pragma once
#include <cstdarg>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "abi.h"

struct Failure {
  int status;
  std::string text;
};

/** Throws a Failure; the text is formatted as printf does. */
[[noreturn]] inline void fail(int status, const char* format, ...) __attribute__((format(printf, 2, 3)));
[[noreturn]] inline void fail(int status, const char* format, ...) {
  char text[1024];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  throw Failure{status, text};
}

/** Runs body and gives the status of what it threw, with the text in *error; lets nothing out. */
template <class Body>
int guarded(std::string* error, Body&& body) noexcept {
  try {
    try {
      body();
      return kStatusOk;
    } catch (Failure& failure) {
      error->swap(failure.text);
      return failure.status;
    } catch (const std::bad_alloc&) {
      *error = "out of memory";
      return kStatusOutOfMemory;
    } catch (const std::exception& other) {
      *error = other.what();
      return kStatusInternal;
    } catch (...) {
      *error = "unknown exception";
      return kStatusInternal;
    }
  } catch (...) {
    return kStatusOutOfMemory;  // no memory left for the text
  }
}

/** Turns a status of the backend into a Failure with the backend's text. */
inline void check(int status, const std::string& error) {
  if (status == kStatusOk) return;
  throw Failure{status, error.empty() ? "the backend gave no reason" : error};
}
