#include "textflag.h"

#define SYS_clone3     435
#define SYS_exit_group 94

// func clone(args *cloneArgs, size uintptr, first *call) (pid uintptr, errno syscall.Errno)
TEXT ·clone(SB),NOSPLIT,$0-40
	MOVD args+0(FP), R0
	MOVD size+8(FP), R1
	MOVD first+16(FP), R20
	MOVD $SYS_clone3, R8
	SVC
	CBZ  R0, child
	CMN  $4095, R0
	BCS  failed
	MOVD R0, pid+24(FP)
	MOVD ZR, errno+32(FP)
	RET
failed:
	NEG  R0, R0
	MOVD R0, errno+32(FP)
	MOVD ZR, pid+24(FP)
	RET

	// The child shares the parent's memory and stack: it writes nothing but results.
child:
	MOVD 0(R20), R8
	MOVD 8(R20), R0
	MOVD 16(R20), R1
	MOVD 24(R20), R2
	MOVD 32(R20), R3
	MOVD 40(R20), R4
	MOVD 48(R20), R5
	MOVD 56(R20), R21
	SVC
	MOVD R0, 64(R20)
	CMN  $4095, R0
	BCC  onward
	CMP  $1, R21 // ignore
	BEQ  onward
	CMP  $2, R21 // next
	BNE  quit
	CMN  $2, R0 // ENOENT
	BEQ  onward
	CMN  $13, R0 // EACCES
	BEQ  onward
	CMN  $20, R0 // ENOTDIR
	BEQ  onward
quit:
	MOVD $SYS_exit_group, R8
	MOVD $127, R0
	SVC
	B    quit
onward:
	ADD  $72, R20
	B    child
