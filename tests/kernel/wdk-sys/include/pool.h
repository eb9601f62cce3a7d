/* Pool functions of Windows 10 2004 and later, as learn.microsoft.com documents them for wdm.h. */
#pragma once

typedef ULONG64 POOL_FLAGS;

#define POOL_NX_ALLOCATION 512

static const POOL_FLAGS POOL_FLAG_USE_QUOTA = 0x1;
static const POOL_FLAGS POOL_FLAG_UNINITIALIZED = 0x2;
static const POOL_FLAGS POOL_FLAG_SESSION = 0x4;
static const POOL_FLAGS POOL_FLAG_CACHE_ALIGNED = 0x8;
static const POOL_FLAGS POOL_FLAG_RAISE_ON_FAILURE = 0x20;
static const POOL_FLAGS POOL_FLAG_NON_PAGED = 0x40;
static const POOL_FLAGS POOL_FLAG_NON_PAGED_EXECUTE = 0x80;
static const POOL_FLAGS POOL_FLAG_PAGED = 0x100;

typedef enum _POOL_EXTENDED_PARAMETER_TYPE {
    PoolExtendedParameterInvalidType = 0,
    PoolExtendedParameterPriority,
    PoolExtendedParameterSecurePool,
    PoolExtendedParameterNumaNode,
    PoolExtendedParameterMax
} POOL_EXTENDED_PARAMETER_TYPE;

typedef struct _POOL_EXTENDED_PARAMS_SECURE_POOL {
    HANDLE SecurePoolHandle;
    PVOID Buffer;
    ULONG_PTR Cookie;
    ULONG SecurePoolFlags;
} POOL_EXTENDED_PARAMS_SECURE_POOL;

typedef struct _POOL_EXTENDED_PARAMETER {
    struct {
        ULONG64 Type : 8;
        ULONG64 Optional : 1;
        ULONG64 Reserved : 55;
    };
    union {
        ULONG64 Reserved2;
        PVOID Reserved3;
        EX_POOL_PRIORITY Priority;
        POOL_EXTENDED_PARAMS_SECURE_POOL *SecurePoolParams;
        ULONG PreferredNode;
    };
} POOL_EXTENDED_PARAMETER;

typedef const POOL_EXTENDED_PARAMETER *PCPOOL_EXTENDED_PARAMETER;

NTKERNELAPI PVOID NTAPI ExAllocatePool2(POOL_FLAGS Flags, SIZE_T NumberOfBytes, ULONG Tag);
NTKERNELAPI PVOID NTAPI ExAllocatePool3(POOL_FLAGS Flags, SIZE_T NumberOfBytes, ULONG Tag,
                                        PCPOOL_EXTENDED_PARAMETER ExtendedParameters,
                                        ULONG ExtendedParametersCount);
NTKERNELAPI VOID NTAPI ExFreePool2(PVOID P, ULONG Tag, PCPOOL_EXTENDED_PARAMETER ExtendedParameters,
                                   ULONG ExtendedParametersCount);
