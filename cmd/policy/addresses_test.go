package policy

import (
	"go/ast"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// addresses lists the functions that make a number of an address other than in the call
// of a system call, with the reason why the number stays valid.
var addresses = map[string]string{
	"builder/sandbox/launch/launch.go Pointer":     "the program keeps the value, which is on the heap",
	"cmd/cairn/hugeheap/hugeheap.go init":          "looks for the mapping of the heap, which has the value",
	"cmd/cairn/hugeheap/hugeheap_test.go heapLine": "looks for the mapping of the heap, which has the value",
}

var systemCalls = []string{"Syscall", "Syscall6", "RawSyscall", "RawSyscall6"}

// An address that is a number is not adjusted when the stack of a goroutine moves. Only
// the arguments of a system call itself are safe.
func TestAddressesAreOnlyPassedToTheKernel(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range sources(t) {
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			key := strings.TrimPrefix(filepath.ToSlash(f.path), root+"/") + " " + fn.Name.Name
			for _, place := range addressNumbers(fn) {
				seen[key] = true
				if addresses[key] == "" {
					t.Errorf("%s: %s makes a number of an address, which becomes wrong when the stack moves", f.set.Position(place.Pos()), fn.Name.Name)
				}
			}
		}
	}
	for key := range addresses {
		if !seen[key] {
			t.Errorf("the list has %s, which makes no number of an address", key)
		}
	}
}

// addressNumbers returns the conversions uintptr(unsafe.Pointer(x)) in a function that are
// not arguments of a system call.
func addressNumbers(fn *ast.FuncDecl) (list []ast.Node) {
	safe := map[ast.Node]bool{}
	ast.Inspect(fn, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains(systemCalls, sel.Sel.Name) {
			for _, arg := range call.Args {
				safe[arg] = true
			}
		}
		if isName(call.Fun, "uintptr") && len(call.Args) == 1 && !safe[call] && isPointer(call.Args[0]) {
			list = append(list, call)
		}
		return true
	})
	return list
}

func isName(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// isPointer reports whether an expression is unsafe.Pointer(x).
func isPointer(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && isName(sel.X, "unsafe") && sel.Sel.Name == "Pointer"
}
