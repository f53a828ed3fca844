package transport

import (
	"context"
	"net/http"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// A challenge is the kind of credentials that a registry asks for: basic
// credentials, or a token of a token server.
type challenge struct {
	basic   bool
	realm   string // URL of the token server
	service string
}

// parseChallenges returns the challenge to meet from WWW-Authenticate headers
// and reports whether there is one; it prefers tokens to basic credentials.
// go-containerregistry parses each challenge, but reads one per header only, and
// takes the first that it knows.
func parseChallenges(headers []string) (challenge, bool) {
	var basic bool
	for _, header := range headers {
		for _, text := range splitChallenges(header) {
			c, err := transport.Ping(context.Background(), name.Registry{}, pingAnswer(text))
			switch {
			case err != nil:
			case strings.EqualFold(c.Scheme, "bearer") && c.Parameters["realm"] != "":
				return challenge{realm: c.Parameters["realm"], service: c.Parameters["service"]}, true
			case strings.EqualFold(c.Scheme, "basic"):
				basic = true
			}
		}
	}
	return challenge{basic: true}, basic
}

// A pingAnswer answers go-containerregistry's ping with this challenge.
type pingAnswer string

func (a pingAnswer) RoundTrip(req *http.Request) (*http.Response, error) {
	header := http.Header{"Www-Authenticate": {quoteParams(string(a))}}
	return &http.Response{StatusCode: http.StatusUnauthorized, Header: header, Body: http.NoBody, Request: req}, nil
}

var quotedOrBareParam = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|=[^\s",]+`)

// quoteParams puts quotes around the parameters of a challenge that have none.
func quoteParams(header string) string {
	return quotedOrBareParam.ReplaceAllStringFunc(header, func(s string) string {
		if s[0] == '=' {
			return `="` + s[1:] + `"`
		}
		return s
	})
}

// splitChallenges splits a header before each authentication scheme: a comma,
// then a word followed by a space, a comma or the end rather than by "=".
func splitChallenges(header string) []string {
	var all []string
	start, quoted := 0, false
	for i := 0; i < len(header); i++ {
		switch {
		case quoted && header[i] == '\\':
			i++
		case header[i] == '"':
			quoted = !quoted
		case header[i] == ',' && !quoted:
			rest := strings.TrimLeft(header[i+1:], " ")
			word := rest[:len(rest)-len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"))]
			if after := rest[len(word):]; word != "" && (after == "" || after[0] == ' ' || after[0] == ',') {
				all = append(all, strings.TrimSpace(header[start:i]))
				start = i + 1
			}
		}
	}
	return append(all, strings.TrimSpace(header[start:]))
}
