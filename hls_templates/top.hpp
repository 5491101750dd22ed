// top.hpp -- declaration of the top function, for the test bench and the simulation.
#pragma once
#include "config.hpp"
#include "engine.hpp"

// Runs the program whose header is at word `program` of a memory of `memory_words` words.
// Returns 0, or a codesign::Status plus 256 times (index of the step + 1).
int codesign_engine(const codesign::Types<Config>::Word *features,
                    const codesign::Types<Config>::Word *offsets,
                    const codesign::Types<Config>::Word *program_port, codesign::Types<Config>::Word *results,
                    int program, int memory_words);
