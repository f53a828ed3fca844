package hcl_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/bake"
)

// A few lines that ask for more memory than a machine has are errors with their place.
func TestLimits(t *testing.T) {
	hundred := "LIST = range(100)\n"
	var doubled, joined strings.Builder
	doubled.WriteString("A0 = \"0123456789\"\n")
	joined.WriteString("A0 = [\"0123456789\"]\n")
	for i := 1; i <= 60; i++ {
		fmt.Fprintf(&doubled, "A%d = \"${A%d}${A%[2]d}\"\n", i, i-1)
		fmt.Fprintf(&joined, "A%d = concat(A%d, A%[2]d)\n", i, i-1)
	}
	const tooMuch = "the values of the definition need more than 64 MB: make lists and texts shorter"
	for name, test := range map[string]struct{ text, want string }{
		"matrix": {hundred + "target \"a\" {\n  name = \"x\"\n  matrix = { a = LIST, b = LIST, c = LIST, d = LIST }\n}\n",
			`a.hcl:4,3: target "a": the matrix has more than 4096 combinations: remove values, or write several targets`},
		"setproduct":     {hundred + "A = length(setproduct(LIST, LIST, LIST, LIST, LIST, LIST, LIST, LIST, LIST, LIST))\n", tooMuch},
		"expanded":       {hundred + "A = length(setproduct([LIST, LIST, LIST, LIST, LIST]...))\n", tooMuch},
		"loops":          {hundred + "A = [for a in LIST : [for b in LIST : [for c in LIST : [for d in LIST : d]]]]\n", tooMuch},
		"doubled text":   {doubled.String(), tooMuch},
		"doubled list":   {joined.String(), tooMuch},
		"indentation":    {"A = indent(1000000000000, \"a\\nb\")\n", tooMuch},
		"join":           {hundred + "S = join(\",\", [for a in LIST : join(\",\", LIST)])\nA = join(S, [for a in LIST : S])\nB = join(A, split(\",\", A))\n", tooMuch},
		"replace":        {"A = join(\"\", [for a in range(1000) : \"aaaaaaaaaaaaaaaaaaaaaaaaa\"])\nB = replace(A, \"a\", A)\n", tooMuch},
		"number":         {"A = \"${1e600000000}\"\n", tooMuch},
		"of a function":  {"function \"f\" {\n  params = [n]\n  result = indent(n, \"a\\nb\")\n}\ntarget \"a\" {\n  context = f(1000000000000)\n}\n", tooMuch},
		"in other words": {hundred + "A = length(LIST) > 1 ? { a = [for k, v in { b = (LIST) } : \"%{for x in v}${join(\"\", setproduct(LIST, LIST, LIST, LIST, v)[0])}%{endfor}\"] } : null\n", tooMuch},
	} {
		_, err := load(bake.File{Name: "a.hcl", Data: []byte(test.text)})
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "a.hcl:") {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}

// Usual values are far from the limits, and guarded expressions keep their meaning.
func TestGuardedExpressions(t *testing.T) {
	const text = `
variable "V" {
  type    = list(object({ name = string, n = number }))
  default = [{ name = "a", n = 1767225600000 }, { name = "b", n = 2 }]
}
function "f" {
  params          = [a]
  variadic_params = rest
  result          = "${a}-${join("+", rest)}"
}
A = f("x", f("y"), ["1", "2"]...)
target "t" {
  tags     = [for v in V : "${v.name}:${v.n}" if can(v.n)]
  args     = { (upper("k")) = try(missing, f("d", "e")), n = -multiply(2, 3), c = convert("5", number) + 1 }
  contexts = { for k, v in { a = "b" } : "${k}x" => format("%s/%s", k, v) }
  labels   = { p = "${join(",", [for p in setproduct(["a", "b"], ["c"]) : join("", p)])}", s = (V[*].name)[1] }
}
`
	d, err := load(bake.File{Name: "a.hcl", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	target := d.Target("t")
	got := fmt.Sprint(target.Tags, " ", *target.Args["K"], " ", *target.Args["n"], " ", *target.Args["c"], " ", target.Contexts, " ", *target.Labels["p"], " ", *target.Labels["s"])
	if want := "[a:1767225600000 b:2] d-e -6 6 map[ax:a/b] ac,bc b"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
