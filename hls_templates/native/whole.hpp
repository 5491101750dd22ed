// native/whole.hpp -- nothing is computed at once: see wordwise.hpp.
#pragma once
#include "wordwise.hpp"
