/* What drivers here are written against: mingw-w64's headers, and what the kit has beyond them. */
#pragma once

#include "exports.h"
#include <ntifs.h>
#include <ntddk.h>
#include "unexports.h"
#include "pool.h"
#include "status.h"
