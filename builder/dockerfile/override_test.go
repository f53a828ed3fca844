package dockerfile

import "testing"

func TestOverride(t *testing.T) {
	t.Parallel()
	f := parse(t, "FROM a AS b\nRUN x\nFROM b\n")
	f.Override("other:1", []Pair{{Key: "A", Value: `x $y 'q' "z" \n`}, {Key: "B"}})
	if f.Stages[0].Base != "other:1" || f.Stages[1].Base != "b" {
		t.Errorf("bases %s, %s", f.Stages[0].Base, f.Stages[1].Base)
	}
	for _, s := range f.Stages {
		env, ok := s.Instructions[0].(*Env)
		if !ok || len(env.Pairs) != 2 || env.Pairs[0].Value != `'x $y '"'"'q'"'"' "z" \n'` || env.Pairs[1].Value != "''" {
			t.Errorf("%s begins with %#v", s.Base, s.Instructions[0])
		}
	}
	if n := len(f.Stages[0].Instructions); n != 2 {
		t.Errorf("%d instructions", n)
	}
	f.Override("", nil)
	if f.Stages[0].Base != "other:1" || len(f.Stages[1].Instructions) != 1 {
		t.Error("nothing to override changes the file")
	}
}
