package transport

import (
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
)

// A refused credential that did not come from a login names its own remedy.
func TestRefusalRemedy(t *testing.T) {
	t.Parallel()
	cred := Credential{AuthConfig: authn.AuthConfig{Username: "ci"}, Source: "the built-in helper gitlab", Remedy: "check $CI_REGISTRY_PASSWORD"}
	got := (&Host{}).refusal(&statusError{code: http.StatusUnauthorized}, cred)
	if want := `it refuses the credentials of "ci" from the built-in helper gitlab; check $CI_REGISTRY_PASSWORD`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
