#include "fuzz_message.h"
#include "proto/event.h"

FUZZ_MESSAGE(event)
