// Package google gets access tokens for Google Cloud.
package google

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cairn-build/cairn/registry/auth/exchange"
)

const (
	metadataTimeout = 2 * time.Second // the address does not answer on other machines
	early           = 5 * time.Minute // before their end tokens are renewed
	scope           = "https://www.googleapis.com/auth/cloud-platform"
	keyFileVariable = "GOOGLE_APPLICATION_CREDENTIALS"
)

// Tokens gets access tokens, in the order of Google's application default credentials: for
// the file that $GOOGLE_APPLICATION_CREDENTIALS names, for gcloud's file, or for the service
// account of the machine or pod. It is safe for concurrent use.
type Tokens struct {
	client *http.Client
	local  *http.Client // for the metadata service, without a proxy

	mu    sync.Mutex
	last  string
	until time.Time
}

// NewTokens returns tokens. client reaches services that are not on this machine.
func NewTokens(client *http.Client) *Tokens {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DialContext = (&net.Dialer{Timeout: metadataTimeout}).DialContext
	return &Tokens{client: client, local: &http.Client{Transport: transport, Timeout: metadataTimeout}}
}

// answer is the response of a token service.
type answer struct {
	Token     string      `json:"access_token"`
	ExpiresIn json.Number `json:"expires_in"`
}

// Get returns a valid token.
func (t *Tokens) Get(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last != "" && time.Until(t.until) > early {
		return t.last, nil
	}
	got, err := t.request(ctx)
	if err == nil && got.Token == "" {
		err = errors.New("the response has no token")
	}
	if err != nil {
		return "", fmt.Errorf("credentials for Google Cloud: %w", err)
	}
	seconds, _ := got.ExpiresIn.Int64()
	t.last, t.until = got.Token, time.Now().Add(time.Duration(seconds)*time.Second)
	return t.last, nil
}

func (t *Tokens) request(ctx context.Context) (answer, error) {
	if file := os.Getenv(keyFileVariable); file != "" {
		raw, err := os.ReadFile(file)
		if err != nil {
			return answer{}, fmt.Errorf("%s: %w", keyFileVariable, err)
		}
		return t.fromFile(ctx, file, raw)
	}
	file := filepath.Join(os.Getenv("CLOUDSDK_CONFIG"), "application_default_credentials.json")
	if os.Getenv("CLOUDSDK_CONFIG") == "" {
		home, _ := os.UserHomeDir() // without one there is no file
		file = filepath.Join(home, ".config/gcloud/application_default_credentials.json")
	}
	raw, err := os.ReadFile(file)
	switch {
	case err == nil:
		return t.fromFile(ctx, file, raw)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission):
		return answer{}, err
	}
	got, err := t.machine(ctx)
	if err != nil {
		err = fmt.Errorf("there are none: set %s, or give the pod or this machine a service account (%w)", keyFileVariable, err)
	}
	return got, err
}

// machine gets a token of the service account from the metadata service.
// Source: cloud.google.com/compute/docs/access/authenticate-workloads.
func (t *Tokens) machine(ctx context.Context) (answer, error) {
	host := cmp.Or(os.Getenv("GCE_METADATA_HOST"), "169.254.169.254")
	return t.send(ctx, t.local, "GET", "http://"+host+"/computeMetadata/v1/instance/service-accounts/default/token", nil, "Metadata-Flavor", "Google")
}

// keyFile is a file of credentials.
type keyFile struct {
	Type     string `json:"type"`
	TokenURI string `json:"token_uri"`

	Email      string `json:"client_email"` // of type service_account
	PrivateKey string `json:"private_key"`
	KeyID      string `json:"private_key_id"`

	ClientID     string `json:"client_id"` // of type authorized_user
	ClientSecret string `json:"client_secret"`
	RefreshToken string `json:"refresh_token"`

	Audience    string `json:"audience"` // of type external_account
	SubjectType string `json:"subject_token_type"`
	TokenURL    string `json:"token_url"`
	Impersonate string `json:"service_account_impersonation_url"`
	Source      struct {
		File    string            `json:"file"`
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
		Format  struct {
			Type  string `json:"type"`
			Field string `json:"subject_token_field_name"`
		} `json:"format"`
	} `json:"credential_source"`
}

func (t *Tokens) fromFile(ctx context.Context, name string, raw []byte) (got answer, err error) {
	var f keyFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return answer{}, fmt.Errorf("%s is not a file of credentials: %w", name, err)
	}
	switch f.Type {
	case "service_account":
		got, err = t.serviceAccount(ctx, f)
	case "authorized_user":
		got, err = t.form(ctx, cmp.Or(f.TokenURI, "https://oauth2.googleapis.com/token"), url.Values{
			"grant_type": {"refresh_token"}, "client_id": {f.ClientID}, "client_secret": {f.ClientSecret}, "refresh_token": {f.RefreshToken},
		})
	case "external_account":
		got, err = t.external(ctx, f)
	default:
		err = fmt.Errorf("type %.50q is not supported: want service_account, authorized_user or external_account", f.Type)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return got, err
}

// serviceAccount exchanges a signed claim for a token.
// Source: developers.google.com/identity/protocols/oauth2/service-account.
func (t *Tokens) serviceAccount(ctx context.Context, f keyFile) (answer, error) {
	at := cmp.Or(f.TokenURI, "https://oauth2.googleapis.com/token")
	now := time.Now()
	claim, err := signed(f.PrivateKey, map[string]any{"alg": "RS256", "typ": "JWT", "kid": f.KeyID}, map[string]any{
		"iss": f.Email, "scope": scope, "aud": at, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	if err != nil {
		return answer{}, err
	}
	return t.form(ctx, at, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {claim}})
}

// signed returns a JSON web token, signed by RS256.
func signed(key string, header, claims map[string]any) (string, error) {
	block, _ := pem.Decode([]byte(key))
	if block == nil {
		return "", errors.New("private_key is not in PEM format")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return "", errors.New("private_key is not a private RSA key")
	}
	var parts []string
	for _, part := range []any{header, claims} {
		text, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(text))
	}
	text := strings.Join(parts, ".")
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, sum[:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), err
}

// external exchanges the token of another identity provider, as that of a Kubernetes
// service account or of a CI job.
// Source: cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token.
func (t *Tokens) external(ctx context.Context, f keyFile) (answer, error) {
	subject, err := t.subject(ctx, f)
	if err != nil {
		return answer{}, fmt.Errorf("credential_source: %w", err)
	}
	got, err := t.form(ctx, cmp.Or(f.TokenURL, "https://sts.googleapis.com/v1/token"), url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"audience": {f.Audience}, "scope": {scope}, "subject_token_type": {f.SubjectType}, "subject_token": {subject},
	})
	if err != nil || f.Impersonate == "" {
		return got, err
	}
	body, err := json.Marshal(map[string]any{"scope": []string{scope}})
	if err != nil {
		return answer{}, err
	}
	raw, err := t.raw(ctx, t.client, "POST", f.Impersonate, strings.NewReader(string(body)), "Authorization", "Bearer "+got.Token)
	if err != nil {
		return answer{}, fmt.Errorf("acting as the service account: %w", err)
	}
	var as struct{ AccessToken string }
	err = json.Unmarshal(raw, &as)
	return answer{Token: as.AccessToken, ExpiresIn: "600"}, err
}

// subject returns the token to exchange.
func (t *Tokens) subject(ctx context.Context, f keyFile) (text string, err error) {
	var raw []byte
	switch s := f.Source; {
	case s.File != "":
		raw, err = os.ReadFile(s.File)
	case s.URL != "":
		var header []string
		for name, value := range s.Headers {
			header = append(header, name, value)
		}
		raw, err = t.raw(ctx, t.client, "GET", s.URL, nil, header...)
	default:
		err = errors.New("it has neither a file nor a url, and others are not supported")
	}
	if err != nil || f.Source.Format.Type != "json" {
		return strings.TrimSpace(string(raw)), err
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return "", err
	}
	text, _ = fields[f.Source.Format.Field].(string)
	if text == "" {
		err = fmt.Errorf("the response has no field %.50q", f.Source.Format.Field)
	}
	return text, err
}

func (t *Tokens) form(ctx context.Context, at string, form url.Values) (answer, error) {
	return t.send(ctx, t.client, "POST", at, strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
}

// send sends a small request with header fields, and parses the response.
func (t *Tokens) send(ctx context.Context, client *http.Client, method, at string, body io.Reader, header ...string) (got answer, err error) {
	raw, err := t.raw(ctx, client, method, at, body, header...)
	if err != nil {
		return got, err
	}
	return got, json.Unmarshal(raw, &got)
}

func (t *Tokens) raw(ctx context.Context, client *http.Client, method, at string, body io.Reader, header ...string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, at, body)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	raw, status, err := exchange.Do(client, req)
	if err == nil && status != http.StatusOK {
		var told struct {
			Error any `json:"error"`
		}
		_ = json.Unmarshal(raw, &told) // without it the status has to do
		code, _ := told.Error.(string)
		err = fmt.Errorf("status %d %s", status, code[:min(len(code), 100)])
	}
	return raw, err
}
