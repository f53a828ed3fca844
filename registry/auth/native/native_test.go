package native

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cloud is the token services of all providers.
type cloud struct {
	t   *testing.T
	key *rsa.PrivateKey
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	at := r.Method + " " + r.Host + r.URL.Path
	form := r.PostForm
	switch {
	case at == "GET metadata.test/computeMetadata/v1/instance/service-accounts/default/token" && r.Header.Get("Metadata-Flavor") == "Google":
		fmt.Fprint(w, `{"access_token":"google-machine","expires_in":3600}`)
	case at == "POST oauth2.googleapis.com/token" && form.Get("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer" && c.signed(form.Get("assertion")):
		fmt.Fprint(w, `{"access_token":"google-key","expires_in":3600}`)
	case at == "POST oauth2.googleapis.com/token" && form.Get("grant_type") == "refresh_token" && form.Get("refresh_token") == "refresh":
		fmt.Fprint(w, `{"access_token":"google-user","expires_in":3600}`)
	case at == "POST sts.googleapis.com/v1/token" && form.Get("subject_token") == "pod-token" && form.Get("audience") == "pool":
		fmt.Fprint(w, `{"access_token":"google-sts","expires_in":3600}`)
	case at == "POST iam.test/as" && r.Header.Get("Authorization") == "Bearer google-sts":
		fmt.Fprint(w, `{"accessToken":"google-as"}`)
	case at == "POST api.ecr.eu-west-1.amazonaws.com/" && r.Header.Get("X-Amz-Target") == "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" &&
		strings.Contains(r.Header.Get("Authorization"), "Credential=AKID/") && strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/ecr/aws4_request"):
		fmt.Fprintf(w, `{"authorizationData":[{"authorizationToken":%q}]}`, base64.StdEncoding.EncodeToString([]byte("AWS:ecr-password")))
	case at == "POST api.ecr-public.us-east-1.amazonaws.com/" && r.Header.Get("X-Amz-Target") == "SpencerFrontendService.GetAuthorizationToken":
		fmt.Fprintf(w, `{"authorizationData":{"authorizationToken":%q}}`, base64.StdEncoding.EncodeToString([]byte("AWS:public-password")))
	case at == "POST login.microsoftonline.com/tenant/oauth2/v2.0/token" && form.Get("client_assertion") == "pod-token" && form.Get("scope") == "https://management.azure.com/.default":
		fmt.Fprint(w, `{"access_token":"azure-token","expires_in":3600}`)
	case at == "POST team.azurecr.io/oauth2/exchange" && form.Get("access_token") == "azure-token" && form.Get("service") == "team.azurecr.io" && form.Get("tenant") == "tenant":
		fmt.Fprint(w, `{"refresh_token":"acr-token"}`)
	default:
		c.t.Logf("refused: %s", at)
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"__type":"AccessDenied","error":"denied"}`)
	}
}

// signed reports whether a claim has a valid signature.
func (c *cloud) signed(claim string) bool {
	parts := strings.Split(claim, ".")
	if len(parts) != 3 {
		return false
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	body, bodyErr := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct{ Iss, Aud string }
	return err == nil && bodyErr == nil && rsa.VerifyPKCS1v15(&c.key.PublicKey, crypto.SHA256, sum[:], signature) == nil &&
		json.Unmarshal(body, &claims) == nil && claims.Iss == "me@project" && claims.Aud == "https://oauth2.googleapis.com/token"
}

// toCloud sends all requests to the handler.
type toCloud struct{ http.Handler }

func (c toCloud) RoundTrip(req *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	in := req.Clone(req.Context())
	in.Host = req.URL.Host
	if in.Body == nil {
		in.Body = io.NopCloser(strings.NewReader(""))
	}
	c.ServeHTTP(w, in)
	return w.Result(), nil
}

// place has the credentials of a test.
type place struct {
	client *http.Client
	dir    string
	files  map[string]string // by their kind
	local  string            // host of the metadata service
}

// newPlace makes credentials of all kinds, and the services that know them.
func newPlace(t *testing.T) place {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	handler := &cloud{t, key}
	client := &http.Client{Transport: toCloud{handler}}
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = "metadata.test"
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(metadata.Close)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, v any) string {
		text, ok := v.(string)
		if !ok {
			raw, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			text = string(raw)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token := file("token", "pod-token\n")
	pem := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	account := file("account.json", map[string]string{"type": "service_account", "client_email": "me@project", "private_key": pem, "private_key_id": "1"})
	user := file("user.json", map[string]string{"type": "authorized_user", "refresh_token": "refresh", "client_id": "a", "client_secret": "b"})
	pool := file("pool.json", map[string]any{"type": "external_account", "audience": "pool", "subject_token_type": "jwt", "credential_source": map[string]any{"file": token}})
	as := file("as.json", map[string]any{"type": "external_account", "audience": "pool", "service_account_impersonation_url": "https://iam.test/as",
		"credential_source": map[string]any{"file": file("json", `{"t":"pod-token"}`), "format": map[string]string{"type": "json", "subject_token_field_name": "t"}}})
	return place{client, dir, map[string]string{"token": token, "account": account, "user": user, "pool": pool, "as": as}, strings.TrimPrefix(metadata.URL, "http://")}
}

// TestLookup asks each helper with each kind of credentials, and no helper for the
// registries of others.
func TestLookup(t *testing.T) {
	p := newPlace(t)
	aws := map[string]string{"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret"}
	azure := map[string]string{"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_FEDERATED_TOKEN_FILE": p.files["token"]}
	gitlab := map[string]string{"CI_REGISTRY": "registry.gitlab.example", "CI_REGISTRY_USER": "ci", "CI_REGISTRY_PASSWORD": "job", "CI_DEPENDENCY_PROXY_SERVER": "gitlab.example:443", "CI_DEPENDENCY_PROXY_USER": "dep", "CI_DEPENDENCY_PROXY_PASSWORD": "proxy"}
	for name, test := range map[string]struct {
		host string
		env  map[string]string
		want string // user and password
		fail string // part of the source of an empty credential
	}{
		"google machine":   {host: "europe-docker.pkg.dev", env: map[string]string{"GCE_METADATA_HOST": p.local}, want: "oauth2accesstoken google-machine"},
		"google key":       {host: "eu.gcr.io", env: map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": p.files["account"]}, want: "oauth2accesstoken google-key"},
		"google user":      {host: "gcr.io", env: map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": p.files["user"]}, want: "oauth2accesstoken google-user"},
		"google pool":      {host: "gcr.io", env: map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": p.files["pool"]}, want: "oauth2accesstoken google-sts"},
		"google as":        {host: "gcr.io", env: map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": p.files["as"]}, want: "oauth2accesstoken google-as"},
		"google no file":   {host: "gcr.io", env: map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": p.dir + "/none"}, fail: "helper google: credentials for Google Cloud: GOOGLE_APPLICATION_CREDENTIALS: "},
		"google nowhere":   {host: "gcr.io", env: map[string]string{"GCE_METADATA_HOST": "127.0.0.1:1"}, fail: "there are none: set GOOGLE_APPLICATION_CREDENTIALS"},
		"ecr":              {host: "123456789012.dkr.ecr.eu-west-1.amazonaws.com", env: aws, want: "AWS ecr-password"},
		"ecr public":       {host: "public.ecr.aws", env: aws, want: "AWS public-password"},
		"ecr other region": {host: "123456789012.dkr.ecr.us-east-2.amazonaws.com", env: aws, fail: "helper ecr: GetAuthorizationToken: status 403 AccessDenied"},
		"ecr look-alike":   {host: "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", env: aws},
		"acr":              {host: "team.azurecr.io", env: azure, want: acrUser + " acr-token"},
		"acr of others":    {host: "other.azurecr.io", env: azure, fail: "helper acr: exchange of the token at other.azurecr.io: status 403"},
		"acr look-alike":   {host: "azurecr.io.evil.example", env: azure},
		"gitlab":           {host: "registry.gitlab.example", env: gitlab, want: "ci job"},
		"gitlab proxy":     {host: "gitlab.example", env: gitlab, want: "dep proxy"},
		"gitlab other":     {host: "evil.example", env: gitlab},
		"env":              {host: "my-host.example.com", env: map[string]string{"DOCKER_my_host_example_com_USR": "u", "DOCKER_my_host_example_com_PSW": "p"}, want: "u p"},
		"env domain":       {host: "my-host.example.com", env: map[string]string{"DOCKER_example_com_USR": "u", "DOCKER_example_com_PSW": "p"}, want: "u p"},
		"env top":          {host: "my-host.example.com", env: map[string]string{"DOCKER_com_USR": "u", "DOCKER_com_PSW": "p"}},
		"github":           {host: "ghcr.io", env: map[string]string{"GITHUB_TOKEN": "t"}, want: "x-access-token t"},
		"no one's":         {host: "docker.io", env: map[string]string{"GITHUB_TOKEN": "t"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", p.dir)
			t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			h, err := New(Names(), p.client)
			if err != nil {
				t.Fatal(err)
			}
			got := h.Lookup(t.Context(), test.host)
			if text := strings.TrimSpace(got.Username + " " + got.Password); text != test.want {
				t.Errorf("%q, want %q; %s", text, test.want, got.Source)
			}
			if got.Empty() && (test.fail == "") != (got.Source == "") || !strings.Contains(got.Source, test.fail) {
				t.Errorf("source %q, want %q in it", got.Source, test.fail)
			}
		})
	}
}

// Only the chosen helpers are asked.
func TestNames(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", "t")
	h, err := New([]string{"gitlab"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := h.Lookup(t.Context(), "ghcr.io"); !got.Empty() {
		t.Errorf("a helper that was not chosen gave %v", got)
	}
	if _, err := New([]string{"keychain"}, nil); err == nil || !strings.Contains(err.Error(), `no credential helper "keychain": want some of env, google, ecr, acr, gitlab`) {
		t.Error(err)
	}
}
