package hcl

import (
	"errors"
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

const (
	maxCombinations = 4096     // of a matrix
	maxValues       = 64 << 20 // bytes of all values that functions, templates and loops take
	elementSize     = 32       // bytes that a value counts for besides its text
)

// budget limits the memory that the values of a definition take. A few lines of HCL can
// ask for any amount: each variable may repeat another one ten times.
type budget struct {
	used int
	over *hcl.Range // of the expression that used it up
}

// guard makes the expressions of a file count against the budget. HCL's JSON syntax
// gives no access to its expressions.
func (b *budget) guard(f *hcl.File) {
	if body, ok := f.Body.(*hclsyntax.Body); ok {
		b.guardBody(body, "")
	}
}

func (b *budget) guardBody(body *hclsyntax.Body, block string) {
	for name, a := range body.Attributes {
		if block == "variable" && name == "type" || block == "function" && name != "result" {
			continue // types and names, not values
		}
		b.inside(a.Expr)
	}
	for _, inner := range body.Blocks {
		b.guardBody(inner.Body, inner.Type)
	}
}

// inside guards the values that an expression is made of.
func (b *budget) inside(e hclsyntax.Expression) {
	switch e := e.(type) {
	case *hclsyntax.FunctionCallExpr:
		b.call(e)
	case *hclsyntax.TemplateExpr:
		b.counted(e.Parts)
	case *hclsyntax.TemplateWrapExpr:
		e.Wrapped = b.wrap(e.Wrapped, nil)
	case *hclsyntax.TemplateJoinExpr:
		b.inside(e.Tuple)
	case *hclsyntax.ForExpr:
		b.inside(e.CollExpr)
		b.inside(e.KeyExpr)
		b.inside(e.CondExpr)
		e.ValExpr = b.wrap(e.ValExpr, nil)
	case *hclsyntax.ConditionalExpr:
		b.inside(e.Condition)
		b.inside(e.TrueResult)
		b.inside(e.FalseResult)
	case *hclsyntax.BinaryOpExpr:
		b.inside(e.LHS)
		b.inside(e.RHS)
	case *hclsyntax.UnaryOpExpr:
		b.inside(e.Val)
	case *hclsyntax.TupleConsExpr:
		b.counted(e.Exprs)
	case *hclsyntax.ObjectConsExpr:
		for i, item := range e.Items {
			b.inside(item.KeyExpr)
			e.Items[i].ValueExpr = b.wrap(item.ValueExpr, nil)
		}
	case *hclsyntax.ObjectConsKeyExpr:
		b.inside(e.Wrapped)
	case *hclsyntax.IndexExpr:
		b.inside(e.Collection)
		b.inside(e.Key)
	case *hclsyntax.RelativeTraversalExpr:
		b.inside(e.Source)
	case *hclsyntax.SplatExpr:
		b.inside(e.Source)
		b.inside(e.Each)
	case *hclsyntax.ParenthesesExpr:
		b.inside(e.Expression)
	}
}

func (b *budget) counted(list []hclsyntax.Expression) {
	for i, e := range list {
		list[i] = b.wrap(e, nil)
	}
}

// call guards the arguments of a function. Some functions take expressions rather than
// values.
func (b *budget) call(e *hclsyntax.FunctionCallExpr) {
	c := &call{FunctionCallExpr: e, sizes: make([]int, len(e.Args))}
	for i, arg := range e.Args {
		switch {
		case e.Name == "can" || e.Name == "try":
			b.inside(arg)
		case e.Name != "convert" || i == 0:
			e.Args[i] = b.wrap(arg, func(v cty.Value) int { return c.result(i, v) })
		}
	}
}

// call is a call of a function whose arguments are being evaluated in order.
type call struct {
	*hclsyntax.FunctionCallExpr
	sizes []int
}

// result returns the size of argument i or, of the last one of a function whose result
// may be much larger than its arguments, a bound of the result's.
func (c *call) result(i int, v cty.Value) int {
	c.sizes[i] = sizeOf(v)
	switch {
	case c.Name == "indent" && i == 0 && v.Type() == cty.Number && v.IsKnown() && !v.IsNull():
		n, _ := v.AsBigFloat().Int64() // the nearest one
		c.sizes[i] = int(max(1, min(n, maxValues)))
		return 0
	case c.Name == "setproduct":
		c.sizes[i] = lengthOf(v)
		if i == len(c.Args)-1 && c.ExpandFinal {
			c.sizes[i] = 1
			each(v, func(list cty.Value) bool { c.sizes[i] = times(c.sizes[i], lengthOf(list)); return true })
		}
	}
	if i < len(c.Args)-1 {
		return c.sizes[i]
	}
	switch c.Name {
	case "setproduct":
		product := 1
		for _, n := range c.sizes {
			product = times(product, n)
		}
		return times(product, elementSize*len(c.sizes))
	case "join", "replace", "regex_replace", "format", "formatlist", "indent":
		sum := 0
		for _, n := range c.sizes[1:] {
			sum += n
		}
		return times(c.sizes[0], sum)
	}
	return c.sizes[i]
}

// times returns a product, or maxValues if it is larger.
func times(a, b int) int {
	if a > 0 && b > maxValues/a {
		return maxValues
	}
	return a * b
}

func (b *budget) wrap(e hclsyntax.Expression, size func(cty.Value) int) hclsyntax.Expression {
	b.inside(e)
	if literal, ok := e.(*hclsyntax.LiteralValueExpr); ok && size == nil && sizeOf(literal.Val) < elementSize {
		return e
	}
	if size == nil {
		size = sizeOf
	}
	return &sized{&hclsyntax.ParenthesesExpr{Expression: e, SrcRange: e.Range()}, b, size}
}

// sized is an expression whose value counts against a budget.
type sized struct {
	*hclsyntax.ParenthesesExpr
	budget *budget
	size   func(cty.Value) int
}

// errOverBudget is the panic of an expression that uses up the budget. An error would
// not end the loops around it. Calls of functions turn the panic into an error.
var errOverBudget = errors.New("the definition is too large")

// Value returns the value. It panics once the budget is used up.
func (s *sized) Value(c *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := s.Expression.Value(c)
	b := s.budget
	if b.used += elementSize + s.size(v); b.used >= maxValues && b.over == nil {
		b.over = &s.SrcRange
	}
	if b.over != nil {
		panic(errOverBudget)
	}
	return v, diags
}

// check returns an error if the budget is used up.
func (b *budget) check() hcl.Diagnostics {
	if b.over == nil {
		return nil
	}
	return hcl.Diagnostics{{
		Severity: hcl.DiagError,
		Summary:  fmt.Sprintf("the values of the definition need more than %d MB: make lists and texts shorter", maxValues>>20),
		Subject:  b.over,
	}}
}

// sizeOf returns the approximate size of a value in bytes, not much more than maxValues.
func sizeOf(v cty.Value) (size int) {
	switch t := v.Type(); {
	case v.IsNull() || !v.IsKnown() || v.IsMarked():
	case t == cty.String:
		size = len(v.AsString())
	case t == cty.Number:
		bits := v.AsBigFloat().MantExp(nil)
		size = max(bits, -bits)/3 + 1 // digits
	default:
		each(v, func(element cty.Value) bool {
			size += elementSize + sizeOf(element)
			return size < maxValues
		})
	}
	return size
}

// lengthOf returns the number of elements of a collection.
func lengthOf(v cty.Value) (n int) {
	each(v, func(cty.Value) bool { n++; return true })
	return n
}

// each calls f for the elements of a collection until it returns false.
func each(v cty.Value, f func(cty.Value) bool) {
	if v.IsNull() || !v.IsKnown() || v.IsMarked() || !v.CanIterateElements() {
		return
	}
	for i := v.ElementIterator(); i.Next(); {
		if _, element := i.Element(); !f(element) {
			return
		}
	}
}

// checkCombinations returns an error for a matrix with too many combinations.
func checkCombinations(a *hcl.Attribute, axes map[string]cty.Value) error {
	n := 1
	for _, axis := range axes {
		if axis.IsNull() || !axis.CanIterateElements() {
			continue
		}
		n = times(n, lengthOf(axis))
	}
	if n <= maxCombinations {
		return nil
	}
	return fault(a, fmt.Sprintf("the matrix has more than %d combinations: remove values, or write several targets", maxCombinations))
}
