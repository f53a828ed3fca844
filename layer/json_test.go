package layer

import "testing"

type embedded struct{ C []int }

func TestUnmarshal(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{"a": {"b": [1]}}`:  "",
		`null`:               "",
		`[]`:                 "JSON document has the wrong type array",
		`{"a": 5}`:           "JSON field A has the wrong type number",
		`{"a": {"b": [""]}}`: "JSON field A.B has the wrong type string",
		`{"a": {"c": true}}`: "JSON field A.C has the wrong type bool",
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
