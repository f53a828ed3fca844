#include "textflag.h"

#define SYS_clone3     435
#define SYS_exit_group 231
#define LAST_ERROR     0xfffffffffffff001 // -4095

// func clone(args *cloneArgs, size uintptr, first *call) (pid uintptr, errno syscall.Errno)
TEXT ·clone(SB),NOSPLIT,$0-40
	MOVQ args+0(FP), DI
	MOVQ size+8(FP), SI
	MOVQ first+16(FP), R12
	MOVQ $SYS_clone3, AX
	SYSCALL
	TESTQ AX, AX
	JZ   child
	CMPQ AX, $LAST_ERROR
	JCC  failed
	MOVQ AX, pid+24(FP)
	MOVQ $0, errno+32(FP)
	RET
failed:
	NEGQ AX
	MOVQ AX, errno+32(FP)
	MOVQ $0, pid+24(FP)
	RET

	// The child shares the parent's memory and stack: it writes nothing but results.
child:
	MOVQ 0(R12), AX
	MOVQ 8(R12), DI
	MOVQ 16(R12), SI
	MOVQ 24(R12), DX
	MOVQ 32(R12), R10
	MOVQ 40(R12), R8
	MOVQ 48(R12), R9
	MOVQ 56(R12), R13
	SYSCALL
	MOVQ AX, 64(R12)
	CMPQ AX, $LAST_ERROR
	JCS  onward
	CMPQ R13, $1 // ignore
	JEQ  onward
	CMPQ R13, $2 // next
	JNE  quit
	CMPQ AX, $-2 // ENOENT
	JEQ  onward
	CMPQ AX, $-13 // EACCES
	JEQ  onward
	CMPQ AX, $-20 // ENOTDIR
	JEQ  onward
quit:
	MOVQ $SYS_exit_group, AX
	MOVQ $127, DI
	SYSCALL
	JMP  quit
onward:
	ADDQ $72, R12
	JMP  child
