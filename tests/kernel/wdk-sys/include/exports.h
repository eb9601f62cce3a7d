/* mingw-w64 has these inline. On x64 the kit declares them as ntoskrnl's, so mingw's get other names. */
#define KeGetCurrentIrql mingw_KeGetCurrentIrql
#define KeLowerIrql mingw_KeLowerIrql
#define KfRaiseIrql mingw_KfRaiseIrql
#define KeInitializeSpinLock mingw_KeInitializeSpinLock
