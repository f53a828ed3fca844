// Package native finds credentials for the registries of cloud providers and of GitLab in
// their own services and variables, without a helper program.
package native

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/cairn-build/cairn/registry/auth/aws"
	"github.com/cairn-build/cairn/registry/auth/azure"
	"github.com/cairn-build/cairn/registry/auth/exchange"
	"github.com/cairn-build/cairn/registry/auth/google"
	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/retry"
	"github.com/cairn-build/cairn/registry/transport"
)

// Names returns the names of all helpers, in the order in which they are asked.
func Names() []string { return []string{"env", "google", "ecr", "acr", "gitlab"} }

// Helpers finds credentials. Each helper is asked for the registries of its provider only.
// It is safe for concurrent use.
type Helpers struct {
	names  []string
	client *http.Client
	google *google.Tokens

	mu    sync.Mutex
	azure map[string]*azure.Tokens // by resource
}

// New returns the helpers with the names. A nil client is a default.
func New(names []string, client *http.Client) (*Helpers, error) {
	for _, name := range names {
		if !slices.Contains(Names(), name) {
			return nil, fmt.Errorf("there is no credential helper %q: want some of %s", name, strings.Join(Names(), ", "))
		}
	}
	if client == nil {
		client = &http.Client{
			Transport:     retry.Watched{RoundTripper: http.DefaultTransport.(*http.Transport).Clone()},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Timeout:       time.Minute,
		}
	}
	return &Helpers{names: names, client: client, google: google.NewTokens(client), azure: map[string]*azure.Tokens{}}, nil
}

// remedies tell the user to correct credentials that a registry refuses.
var remedies = map[string]string{
	"env":    "correct the variables DOCKER_HOST_USR and DOCKER_HOST_PSW of this registry, or GITHUB_TOKEN, and their rights",
	"google": "check the rights of the account in $GOOGLE_APPLICATION_CREDENTIALS or of the workload identity",
	"ecr":    "check the rights of the role or user of $AWS_ACCESS_KEY_ID or of the pod",
	"acr":    "check the rights of the service principal or of the identity of the pod",
	"gitlab": "check $CI_REGISTRY_USER and $CI_REGISTRY_PASSWORD, and the rights of the job's token",
}

// Lookup returns the credential for a registry, or an empty one if no helper has one. The
// source of an empty one tells of the failure of a helper, since the registry may need no
// credentials.
func (h *Helpers) Lookup(ctx context.Context, domain string) transport.Credential {
	failed := ""
	for _, name := range Names() {
		if !slices.Contains(h.names, name) {
			continue
		}
		user, password, err := h.ask(ctx, name, domain)
		if err != nil {
			failed = cmp.Or(failed, fmt.Sprintf("helper %s: %v", name, err))
			continue
		}
		if password != "" {
			return transport.Credential{AuthConfig: authn.AuthConfig{Username: user, Password: password}, Source: "the built-in helper " + name, Remedy: remedies[name]}
		}
	}
	return transport.Credential{Source: failed}
}

// ask returns a user and a password, or none if the helper is not one for the registry.
func (h *Helpers) ask(ctx context.Context, name, domain string) (user, password string, err error) {
	host := strings.ToLower(domain)
	switch name {
	case "env":
		user, password = environment(host)
	case "google":
		if isGoogle(host) {
			user = "oauth2accesstoken"
			password, err = h.google.Get(ctx)
		}
	case "ecr":
		if at, region, service := ecr(host); region != "" {
			return h.ecrToken(ctx, at, region, service)
		}
	case "acr":
		if resource := acr(host); resource != "" {
			return h.acrToken(ctx, host, resource)
		}
	case "gitlab":
		user, password = gitlab(host)
	}
	return user, password, err
}

// environment returns the variables DOCKER_HOST_USR and DOCKER_HOST_PSW, where HOST is the
// registry, or the domain that it is in, with _ in place of dots and hyphens; for GitHub's
// registry also $GITHUB_TOKEN. These are the names of docker-credential-env.
func environment(host string) (user, password string) {
	if host == reference.Hub {
		host = "index.docker.io"
	}
	for labels := strings.Split(host, "."); len(labels) >= 2; labels = labels[1:] {
		name := "DOCKER_" + strings.NewReplacer("-", "_", ":", "_").Replace(strings.Join(labels, "_"))
		if user := os.Getenv(name + "_USR"); user != "" {
			return user, os.Getenv(name + "_PSW")
		}
	}
	if host == "ghcr.io" {
		return "x-access-token", os.Getenv("GITHUB_TOKEN")
	}
	return "", ""
}

// gitlab returns the credentials that GitLab gives to a CI job.
func gitlab(host string) (user, password string) {
	for _, v := range []struct{ host, user, password string }{
		{"CI_REGISTRY", "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD"},
		{"CI_DEPENDENCY_PROXY_SERVER", "CI_DEPENDENCY_PROXY_USER", "CI_DEPENDENCY_PROXY_PASSWORD"},
	} {
		if own := strings.TrimSuffix(strings.ToLower(os.Getenv(v.host)), ":443"); own != "" && own == strings.TrimSuffix(host, ":443") && os.Getenv(v.user) != "" {
			return os.Getenv(v.user), os.Getenv(v.password)
		}
	}
	return "", ""
}

func isGoogle(host string) bool {
	return host == "gcr.io" || strings.HasSuffix(host, ".gcr.io") || strings.HasSuffix(host, ".pkg.dev") || host == "docker.pkg.dev"
}

// ecr returns the URL of the service that has the tokens of a registry of Amazon's, with
// its region and the name to sign for. The region of other registries is "".
func ecr(host string) (at, region, service string) {
	if host == "public.ecr.aws" {
		return "https://api.ecr-public.us-east-1.amazonaws.com/", "us-east-1", "ecr-public"
	}
	labels := strings.Split(host, ".")
	if len(labels) < 6 || labels[1] != "dkr" || labels[2] != "ecr" && labels[2] != "ecr-fips" {
		return "", "", ""
	}
	if domain := strings.Join(labels[4:], "."); domain != aws.Domain(labels[3]) {
		return "", "", ""
	}
	prefix := "https://api.ecr."
	if labels[2] == "ecr-fips" {
		prefix = "https://ecr-fips."
	}
	return prefix + labels[3] + "." + aws.Domain(labels[3]) + "/", labels[3], "ecr"
}

// ecrToken asks for a token.
// Source: docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html.
func (h *Helpers) ecrToken(ctx context.Context, at, region, service string) (user, password string, err error) {
	own, err := aws.NewChain(aws.Credentials{}, region, h.client).Get(ctx)
	if err != nil {
		return "", "", err
	}
	const body = "{}"
	target := "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
	if service == "ecr-public" {
		target = "SpencerFrontendService.GetAuthorizationToken"
	}
	at = cmp.Or(os.Getenv("AWS_ENDPOINT_URL_"+strings.ToUpper(strings.ReplaceAll(service, "-", "_"))), os.Getenv("AWS_ENDPOINT_URL"), at)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(at, "/")+"/", strings.NewReader(body))
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", target)
	aws.Sign(req, own, region, service, aws.Hash(body), time.Now(), "content-type")
	raw, err := h.send(req)
	if err != nil {
		return "", "", fmt.Errorf("GetAuthorizationToken: %w", err)
	}
	type data struct{ AuthorizationToken string }
	var got struct{ AuthorizationData json.RawMessage }
	var list []data
	if err := json.Unmarshal(raw, &got); err != nil {
		return "", "", fmt.Errorf("GetAuthorizationToken: %w", err)
	}
	if json.Unmarshal(got.AuthorizationData, &list) != nil || len(list) == 0 { // of ecr-public it is one
		list = make([]data, 1)
		_ = json.Unmarshal(got.AuthorizationData, &list[0]) // checked below
	}
	text, err := base64.StdEncoding.DecodeString(list[0].AuthorizationToken)
	user, password, ok := strings.Cut(string(text), ":")
	if err != nil || !ok {
		return "", "", errors.New("GetAuthorizationToken: the response has no token")
	}
	return user, password, nil
}

// acr returns the URL of the resource manager whose tokens a registry of Azure's takes, or
// "" for other registries.
func acr(host string) string {
	for suffix, resource := range map[string]string{
		".azurecr.io": azure.Management, ".azurecr.cn": "https://management.chinacloudapi.cn/", ".azurecr.us": "https://management.usgovcloudapi.net/",
	} {
		if strings.HasSuffix(host, suffix) {
			return resource
		}
	}
	return ""
}

// acrUser is the name of the user that a token stands for.
const acrUser = "00000000-0000-0000-0000-000000000000"

// acrToken exchanges a token of Azure's for one of the registry.
// Source: azure.github.io/acr/AAD-OAuth.html.
func (h *Helpers) acrToken(ctx context.Context, host, resource string) (user, password string, err error) {
	h.mu.Lock()
	tokens := h.azure[resource]
	if tokens == nil {
		tokens = azure.NewTokens(resource, h.client)
		h.azure[resource] = tokens
	}
	h.mu.Unlock()
	token, err := tokens.Get(ctx)
	if err != nil {
		return "", "", err
	}
	form := url.Values{"grant_type": {"access_token"}, "service": {host}, "access_token": {token}}
	if tenant := os.Getenv("AZURE_TENANT_ID"); tenant != "" {
		form.Set("tenant", tenant)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+host+"/oauth2/exchange", strings.NewReader(form.Encode()))
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	raw, err := h.send(req)
	if err != nil {
		return "", "", fmt.Errorf("exchange of the token at %s: %w", host, err)
	}
	var got struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.Unmarshal(raw, &got); err != nil || got.RefreshToken == "" {
		return "", "", fmt.Errorf("exchange of the token at %s: the response has no token", host)
	}
	return acrUser, got.RefreshToken, nil
}

// send sends a small request and returns the body of the response. Errors contain neither
// the URL nor the body.
func (h *Helpers) send(req *http.Request) ([]byte, error) {
	raw, status, err := exchange.Do(h.client, req)
	if err == nil && status != http.StatusOK {
		var told struct {
			Type string `json:"__type"`
		}
		_ = json.Unmarshal(bytes.TrimSpace(raw), &told) // without it the status has to do
		err = fmt.Errorf("status %d %s", status, told.Type[:min(len(told.Type), 100)])
	}
	return raw, err
}
