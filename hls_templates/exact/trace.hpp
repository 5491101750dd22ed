// exact/trace.hpp -- nothing is recorded: see untraced.hpp.
#pragma once
#include "untraced.hpp"
