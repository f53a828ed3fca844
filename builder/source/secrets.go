package source

import (
	"regexp"
	"sync"
)

// Secrets gives access to secrets by their ids. They are used to fetch sources, and must
// not be shown.
type Secrets interface {
	// Get returns false if there is no secret with the id.
	Get(id string) (value []byte, ok bool, err error)
}

// userinfo extends to the last @ before the path: a password may contain others.
var userinfo = lazily(`([a-zA-Z][a-zA-Z0-9+.-]*://)([^\s/?#:]*)(:[^\s/?#]*)?@`)

// unescaped matches a userinfo whose password lacks escapes. It recognises it by the text
// after the colon, which is not a port.
var unescaped = lazily(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/?#:@\["']+:[0-9]*[^\s0-9/?#@][^\s/?#@]*[/?#]\S*@`)

// port matches the error of net/url for such a password.
var port = lazily(`invalid port ".*" after host`)

// lazily returns a function that compiles an expression on first use: most runs of the
// program need none.
func lazily(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// Redact replaces users and passwords of all URLs in a text, like BuildKit. It is for text
// that is shown to users.
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
