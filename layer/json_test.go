package layer

import "testing"

type embedded struct{ C []int }

func TestUnmarshal(t *testing.T) {
	for raw, want := range map[string]string{
		`{"a": {"b": [1]}}`:  "",
		`null`:               "",
		`[]`:                 "JSON of another kind: it is of type array",
		`{"a": 5}`:           "JSON of another kind: A is of type number",
		`{"a": {"b": [""]}}`: "JSON of another kind: A.B is of type string",
		`{"a": {"c": true}}`: "JSON of another kind: A.C is of type bool",
		`{"a"`:               "unexpected end of JSON input",
	} {
		var v struct {
			A struct {
				B []int
				embedded
			}
		}
		got := ""
		if err := Unmarshal([]byte(raw), &v); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: error %q, want %q", raw, got, want)
		}
	}
}
