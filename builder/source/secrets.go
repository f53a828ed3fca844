package source

import (
	"regexp"
	"sync"
)

// Secrets gives the values of secrets by their ids. What asks for one uses it
// to fetch a source, and shows it nowhere.
type Secrets interface {
	// Get tells false when there is no secret of that id.
	Get(id string) (value []byte, ok bool, err error)
}

// userinfo goes to the last @ before the path: a password may have some.
var userinfo = lazily(`([a-zA-Z][a-zA-Z0-9+.-]*://)([^\s/?#:]*)(:[^\s/?#]*)?@`)

// unescaped is what was meant as one, with a password that should have been escaped: what
// follows the colon is no port.
var unescaped = lazily(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/?#:@\["']+:[0-9]*[^\s0-9/?#@][^\s/?#@]*[/?#]\S*@`)

// port is what net/url then takes for one.
var port = lazily(`invalid port ".*" after host`)

// lazily compiles an expression when it is first needed: most starts need none.
func lazily(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// Redact hides users and passwords of all URLs in a text, as BuildKit does. It
// is for whatever people see.
func Redact(text string) string {
	known := userinfo().ReplaceAllStringFunc(text, redactOne)
	most := unescaped().ReplaceAllString(known, "${1}xxxxx:xxxxx@")
	if most == known {
		return known
	}
	return port().ReplaceAllString(most, "a password needs % escapes, as in %2F for /")
}

func redactOne(s string) string {
	m := userinfo().FindStringSubmatch(s)
	switch {
	case m[2] == "" && m[3] == "":
		return s
	case m[3] == "":
		return m[1] + "xxxxx@"
	case m[2] == "":
		return m[1] + ":xxxxx@"
	}
	return m[1] + "xxxxx:xxxxx@"
}
