package transport

import (
	"testing"
)

func TestParseChallenges(t *testing.T) {
	for _, test := range []struct {
		headers []string
		want    challenge
		ok      bool
	}{
		{[]string{`Basic realm="x"`}, challenge{basic: true}, true},
		{[]string{`basic`}, challenge{basic: true}, true},
		{[]string{`Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"`}, challenge{realm: "https://a/t", service: "s"}, true},
		{[]string{`Bearer service=s, realm=https://a/t , error="x, y"`}, challenge{realm: "https://a/t", service: "s"}, true},
		{[]string{`Negotiate`, `Basic realm="x"`}, challenge{basic: true}, true},
		{[]string{`Basic realm="a, Bearer b", Bearer realm="https://a/t"`}, challenge{realm: "https://a/t"}, true},
		{[]string{`Negotiate, Basic realm="x"`}, challenge{basic: true}, true},
		{[]string{`Bearer realm="a\"b"`}, challenge{realm: `a"b`}, true},
		{[]string{`Bearer service="s"`}, challenge{basic: true}, false},
		{[]string{`Negotiate`}, challenge{basic: true}, false},
		{nil, challenge{basic: true}, false},
	} {
		if got, ok := parseChallenges(test.headers); got != test.want || ok != test.ok {
			t.Errorf("%q: %+v, %v, want %+v, %v", test.headers, got, ok, test.want, test.ok)
		}
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a/t",service="s",scope="repository:x:pull,push", Basic`)
	f.Add(`Bearer realm="\`)
	f.Add(`,=",=`)
	f.Fuzz(func(t *testing.T, header string) {
		c, ok := parseChallenges([]string{header})
		if ok && !c.basic && c.realm == "" {
			t.Errorf("%q: a token server without a name", header)
		}
	})
}
