package retry

import (
	"net/http"
	"testing"
)

// FuzzRetryAfter parses Retry-After headers.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"7", "-1", "9223372036854775807", "Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := After(http.Header{"Retry-After": {s}}); d < 0 {
			t.Errorf("%q means to wait %s", s, d)
		}
	})
}
