// Package azure gets access tokens for Azure's services.
package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cairn-build/cairn/registry/auth/exchange"
)

// Tokens gets access tokens for one service, in the order of Azure's libraries: for a
// service principal or a workload identity of the environment, or for the machine's
// managed identity.
type Tokens struct {
	Hint string // a further remedy in the error of missing credentials, such as "set x, or "

	resource string // URL of the service
	client   *http.Client
	local    *http.Client // for the machine's metadata service, without a proxy

	mu    sync.Mutex
	last  string
	until time.Time
}

// NewTokens returns tokens for the service with the URL resource.
func NewTokens(resource string, client *http.Client) *Tokens {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DialContext = (&net.Dialer{Timeout: metadataTimeout}).DialContext
	return &Tokens{resource: resource, client: client, local: &http.Client{Transport: transport}}
}

const (
	metadataTimeout = 2 * time.Second // to reach an address that does not answer on other machines
	early           = 5 * time.Minute // before their end tokens are renewed

	// Storage is the URL of Azure's storage.
	Storage = "https://storage.azure.com/"
	// Management is the URL of Azure's resource manager, for whose tokens registries give
	// their own.
	Management = "https://management.azure.com/"
)

// Get returns a valid token.
func (t *Tokens) Get(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last != "" && time.Until(t.until) > early {
		return t.last, nil
	}
	var got struct {
		Token     string      `json:"access_token"`
		ExpiresIn json.Number `json:"expires_in"`
	}
	raw, err := t.request(ctx)
	if err == nil {
		err = json.Unmarshal(raw, &got)
	}
	if err == nil && got.Token == "" {
		err = errors.New("the response has no token")
	}
	if err != nil {
		return "", fmt.Errorf("credentials for Azure: %w", err)
	}
	seconds, _ := got.ExpiresIn.Int64()
	t.last, t.until = got.Token, time.Now().Add(time.Duration(seconds)*time.Second)
	return t.last, nil
}

func (t *Tokens) request(ctx context.Context) ([]byte, error) {
	tenant, id := os.Getenv("AZURE_TENANT_ID"), os.Getenv("AZURE_CLIENT_ID")
	secret, file := os.Getenv("AZURE_CLIENT_SECRET"), os.Getenv("AZURE_FEDERATED_TOKEN_FILE")
	if tenant == "" || id == "" || secret == "" && file == "" {
		raw, err := t.machine(ctx, id)
		if err != nil {
			err = fmt.Errorf("there are none: %sgive the pod or this machine an identity (%w)", t.Hint, err)
		}
		return raw, err
	}
	form := url.Values{"client_id": {id}, "grant_type": {"client_credentials"}, "scope": {t.resource + ".default"}}
	if secret != "" {
		form.Set("client_secret", secret)
	} else {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("AZURE_FEDERATED_TOKEN_FILE: %w", err)
		}
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", strings.TrimSpace(string(raw)))
	}
	at := strings.TrimRight(cmp.Or(os.Getenv("AZURE_AUTHORITY_HOST"), "https://login.microsoftonline.com"), "/")
	return send(ctx, t.client, "POST", at+"/"+url.PathEscape(tenant)+"/oauth2/v2.0/token", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

// machine gets a token of the machine's identity, or of the one with a client id.
func (t *Tokens) machine(ctx context.Context, id string) ([]byte, error) {
	base := strings.TrimRight(cmp.Or(os.Getenv("AZURE_POD_IDENTITY_AUTHORITY_HOST"), "http://169.254.169.254"), "/")
	query := url.Values{"api-version": {"2018-02-01"}, "resource": {t.resource}}
	if id != "" {
		query.Set("client_id", id)
	}
	return send(ctx, t.local, "GET", base+"/metadata/identity/oauth2/token?"+query.Encode(), "", "Metadata", "true")
}

// send sends a small request with a header, and returns the body of the response.
func send(ctx context.Context, client *http.Client, method, at, body, name, value string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, at, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set(name, value)
	raw, status, err := exchange.Do(client, req)
	if err == nil && status != http.StatusOK {
		var told struct{ Error string }
		_ = json.Unmarshal(raw, &told) // without it the status has to do
		err = fmt.Errorf("status %d %s", status, told.Error[:min(len(told.Error), 100)])
	}
	return raw, err
}
