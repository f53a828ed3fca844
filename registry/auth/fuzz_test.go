package auth

import (
	"strings"
	"testing"
)

// FuzzCredentials reads docker's config.json and podman's auth.json, and
// removes a login from it.
func FuzzCredentials(f *testing.F) {
	f.Add(`{"auths":{"https://a.example/v1/":{"auth":"dTpw"},"a.example/b":{"username":"u","password":"hush-hush"}}}`, "a.example", "b/c")
	f.Add(`{"auths":{"a":{"auth":"====","identitytoken":"t"}},"credsStore":"../x","credHelpers":{"a":"b/../../x"}}`, "a", "x")
	f.Add(`{"auths":null,"credHelpers":{"a":""},"credsStore":"none"}`, "docker.io", "library/x")
	f.Add(`{"auths":{"docker.io":7}}`, "docker.io", "../..")
	f.Setenv("PATH", f.TempDir()) // so that no helper is found
	f.Fuzz(func(t *testing.T, text, domain, repo string) {
		cred, err := credentialIn(t.Context(), []byte(text), "the file", domain, repo)
		if err == nil && !cred.Empty() && cred.Source == "" {
			t.Errorf("the credential %v is from nowhere", cred)
		}
		if err != nil && strings.Contains(err.Error(), "hush-hush") {
			t.Errorf("the password is in %q", err)
		}
	})
}
