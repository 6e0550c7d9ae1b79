# make                      the program, ./fusion
# make test                 every test; needs neither Python nor a network
# make asan                 the tests under the address and undefined-behaviour sanitizers
# make fuzz                 every parser against its corpus and mutants, a minute each (MUTANTS); needs clang
# make faults               each allocation and I/O call fails once, of EACH (0: all) runs a verb
# make coverage             what the tests reach, by gcov, and what they must
# make memory               the parsers under MemorySanitizer, whole runs under valgrind; needs clang, valgrind
# make threads              whole runs under ThreadSanitizer; needs clang and its libomp
# make analyze              gcc -fanalyzer, clang-tidy and cppcheck; tests/findings.txt holds what stays
# make bench                the machine and the kernels, measured
# make demo                 two pictures and a sound by the weights that are shipped, into demo/
# make amalgamation         a model as one C file and one header, in build/amalgamation; compiled once to see
# make clean
#
# CC=clang   CC="aarch64-linux-gnu-gcc -static"   CC=musl-gcc   CFLAGS=-O1   OPENMP=0   RUN=qemu-aarch64

CC      = cc
CFLAGS  = -O3
BUILD   = build
PROGRAM = fusion

# What the results depend on, whatever CFLAGS says.  Instruction sets are chosen in the sources, when the
# program starts; a target is named here only where its plain arithmetic would not be that of C.
TARGET := $(shell $(CC) -dumpmachine 2>/dev/null)
RULES   = -std=c11 -ffp-contract=off -Wall -Wextra
ifneq ($(filter i386-% i486-% i586-% i686-%,$(TARGET)),)
RULES  += -msse2 -mfpmath=sse
endif

# OpenMP where the compiler has it.  The one that musl-gcc would find belongs to another libc.
ifeq ($(OPENMP)$(findstring musl-gcc,$(CC)),)
OPENMP := $(shell echo 'int main(void) { return 0; }' | $(CC) -fopenmp -x c -o /dev/null - 2>/dev/null && echo 1)
endif
ifeq ($(OPENMP),1)
RULES  += -fopenmp
else
RULES  += -Wno-unknown-pragmas
endif

# OPENCL=1: the operations also on an OpenCL device (--device opencl); needs the headers CL/, and
# libOpenCL only when it runs.
ifeq ($(OPENCL),1)
RULES  += -DOPENCL -I$(BUILD)
LOADER  = -ldl
endif

SOURCES  = $(wildcard *.c)
COMMANDS = main make views hear join tell find record spectrum read look bench selftest
OBJECTS  = $(SOURCES:%.c=$(BUILD)/%.o)
LIBRARY  = $(filter-out $(COMMANDS:%=$(BUILD)/%.o),$(OBJECTS))
TESTS    = $(patsubst tests/%.c,$(BUILD)/%,$(wildcard tests/test_*.c))
EXAMPLES = $(patsubst examples/%.c,$(BUILD)/examples/%,$(wildcard examples/*.c))
COMPILE  = $(CC) $(RULES) $(CFLAGS)

$(PROGRAM): $(OBJECTS)
	$(COMPILE) $(OBJECTS) $(LDFLAGS) -lm $(LOADER) -o $@

$(BUILD)/%.o: %.c $(BUILD)/flags
	$(COMPILE) -MMD -c $< -o $@

$(BUILD)/test_%: tests/test_%.c $(LIBRARY) $(BUILD)/flags
	$(COMPILE) -I. -MMD -MF $@.d $< $(LIBRARY) $(LDFLAGS) -lm $(LOADER) -o $@

$(BUILD)/examples/%: examples/%.c $(LIBRARY) $(BUILD)/flags
	@mkdir -p $(@D)
	$(COMPILE) -I. -MMD -MF $@.d $< $(LIBRARY) $(LDFLAGS) -lm $(LOADER) -o $@

ifeq ($(OPENCL),1)
$(BUILD)/opencl.o: $(BUILD)/kernels.text
endif
# The device's program as a C string, the files that it includes in their places.
$(BUILD)/kernels.text: kernels.cl kernels.h lanes.h $(BUILD)/flags
	sed -e '/^#include "kernels.h"/{r kernels.h' -e 'd;}' -e '/^#include "lanes.h"/{r lanes.h' -e 'd;}' kernels.cl \
	    | sed -e 's/[\\"]/\\&/g' -e 's/.*/"&\\n"/' > $@

# Another compiler or other flags make everything anew.
ifneq ($(shell cat $(BUILD)/flags 2>/dev/null),$(COMPILE))
.PHONY: $(BUILD)/flags
endif
$(BUILD)/flags:
	@mkdir -p $(BUILD)
	@echo '$(COMPILE)' > $@

test: $(PROGRAM) $(TESTS) $(EXAMPLES)
	@FUSION=./$(PROGRAM) RUN="$(RUN)" sh tests/run.sh $(TESTS)

amalgamation:
	sh examples/amalgamate.sh build/amalgamation
	for name in clip sd audio; do \
	    $(CC) $(RULES) -O2 -c build/amalgamation/fusion_$$name.c -o build/amalgamation/fusion_$$name.o || exit; done

asan:
	$(MAKE) BUILD=build/asan PROGRAM=build/asan/fusion OPENMP=0 \
	    CFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined" test

# One program with libFuzzer for all parsers, by the name it is called by; the command is a part of it.
MUTANTS = -max_total_time=60
CLANG   = clang-14
FUZZING = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined
fuzz:
	$(MAKE) BUILD=build/fuzz CC=$(CLANG) OPENMP=0 CFLAGS="$(FUZZING) -fsanitize=fuzzer-no-link" build/fuzz/fuzz
	sh tests/fuzz.sh build/fuzz/fuzz $(MUTANTS)
$(BUILD)/fuzz: tests/fuzz/fuzz.c $(OBJECTS)
	$(COMPILE) -fsanitize=fuzzer $< $(OBJECTS) -lm $(LOADER) -o $@
ifeq ($(BUILD),build/fuzz)
build/fuzz/main.o: RULES += -Dmain=command_main
endif

# Every allocation and I/O call under a counter that can make one of them fail.
WRAPPED = malloc calloc realloc strdup strndup open_memstream fopen fstat fcntl mmap pread read write fsync \
          fchmod ftruncate posix_fallocate rename link mkdir opendir readdir close open
comma := ,
faults:
	$(MAKE) BUILD=build/faults OPENMP=0 CFLAGS="$(FUZZING)" build/faults/faulty build/faults/replay
	sh tests/fuzz.sh build/faults/replay
	python3 tests/faults.py build/faults/faulty --each $(EACH)
EACH    = 0
OBJCOPY = objcopy
FAULTY  = $(addprefix -Wl$(comma)--wrap=,$(WRAPPED))
$(BUILD)/faulty: tests/faults.c $(OBJECTS)
	$(COMPILE) $^ $(FAULTY) -lm $(LOADER) -o $@
# The fuzz targets on their corpora, with the same faults; what they do themselves is spared.
$(BUILD)/replay: tests/fuzz/fuzz.c tests/faults.c $(filter-out $(BUILD)/main.o,$(OBJECTS))
	$(COMPILE) -Dmain=command_main -c main.c -o $(BUILD)/replayed.o
	$(COMPILE) -DREPLAY -c tests/fuzz/fuzz.c -o $(BUILD)/targets.o
	$(OBJCOPY) $(foreach name,$(WRAPPED),--redefine-sym $(name)=__real_$(name)) $(BUILD)/targets.o
	$(COMPILE) $(BUILD)/targets.o $(BUILD)/replayed.o $(filter-out $<,$^) $(FAULTY) -lm $(LOADER) -o $@

# What the tests reach: every test, the fuzzers' corpora, hostile inputs and faults, by gcov.
coverage:
	rm -rf build/coverage
	$(MAKE) BUILD=build/coverage PROGRAM=build/coverage/fusion OPENMP=0 \
	    CFLAGS="-O1 --coverage" build/coverage/replay build/coverage/faulty test
	sh tests/fuzz.sh build/coverage/replay
	python3 tests/hostile.py --fusion build/coverage/fusion
	python3 tests/faults.py build/coverage/faulty --each 60
	python3 tests/coverage.py build/coverage

memory: $(PROGRAM)
	$(MAKE) BUILD=build/memory CC=$(CLANG) OPENMP=0 \
	    CFLAGS="-O1 -g -fsanitize=memory -fno-sanitize-recover=memory" build/memory/replay
	sh tests/fuzz.sh build/memory/replay
	FUSION=./$(PROGRAM) sh tests/valgrind.sh

# OpenMP's own locks are known to the sanitizer by libarcher, which comes with clang's libomp.
threads:
	$(MAKE) BUILD=build/threads PROGRAM=build/threads/fusion CC=$(CLANG) \
	    CFLAGS="-O1 -g -fsanitize=thread" build/threads/fusion
	OMP_TOOL_LIBRARIES=$$($(CLANG) -print-resource-dir)/../../libarcher.so \
	    TSAN_OPTIONS=ignore_noninstrumented_modules=1 sh tests/same.sh build/threads/fusion

analyze:
	sh tests/analyze.sh

bench: $(PROGRAM)
	./$(PROGRAM) bench

demo: $(PROGRAM)
	@mkdir -p demo
	./$(PROGRAM) image -p "Une cabane chaleureuse dans les bois sous la neige." --seed 1 --steps 20 -o demo/cabin.png
	./$(PROGRAM) image -p "A serene lake surrounded by snow-capped mountains at sunrise" --seed 1 --steps 20 \
	    -o demo/lake.png
	./$(PROGRAM) audio -p "Un marché animé avec des conversations." --seed 1 --steps 20 --seconds 4 \
	    -o demo/market.wav --spectrogram demo/market.png
	./$(PROGRAM) caption demo/cabin.png demo/lake.png demo/market.wav
	./$(PROGRAM) caption demo/cabin.png demo/lake.png demo/market.wav --lang fr

clean:
	rm -rf build demo fusion

.PHONY: test asan fuzz faults coverage memory threads analyze bench demo amalgamation clean
.SECONDARY:
-include $(OBJECTS:.o=.d) $(TESTS:=.d) $(EXAMPLES:=.d)
