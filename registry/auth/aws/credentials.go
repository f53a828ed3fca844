// Package aws finds credentials for Amazon's services, in the places of AWS's libraries,
// and signs requests with them.
package aws

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cairn-build/cairn/registry/auth/exchange"
)

// Credentials are an access key, which all requests are signed with.
type Credentials struct {
	ID     string
	Secret string    // secret
	Token  string    // of a temporary key; secret
	until  time.Time // zero: for ever
}

// Chain finds credentials, in the order of AWS's libraries: given ones, those of the
// environment, of a web identity, of AWS's files, of the container, and of the machine.
type Chain struct {
	Service string // that the credentials are for, in errors
	Hint    string // a further remedy in the error of missing credentials, such as "set x, or "

	given  Credentials
	region string
	client *http.Client
	local  *http.Client // for addresses of this machine, without a proxy

	mu   sync.Mutex
	last Credentials
}

// NewChain returns a chain for a region. Unless the given credentials have an ID, it looks
// for others. client reaches services that are not on this machine.
func NewChain(given Credentials, region string, client *http.Client) *Chain {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DialContext = (&net.Dialer{Timeout: metadataTimeout}).DialContext
	return &Chain{Service: "AWS", given: given, region: region, client: client, local: &http.Client{Transport: transport, Timeout: metadataTimeout}}
}

// metadataTimeout is the time for a request to the metadata service, whose address does
// not answer on machines that have none.
const metadataTimeout = 2 * time.Second

// early is the time before their end at which credentials are renewed.
const early = 5 * time.Minute

// Get returns valid credentials.
func (c *Chain) Get(ctx context.Context) (Credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last.ID != "" && (c.last.until.IsZero() || time.Until(c.last.until) > early) {
		return c.last, nil
	}
	found, err := c.find(ctx)
	if err != nil {
		return found, fmt.Errorf("credentials for %s: %w", c.Service, err)
	}
	c.last = found
	return found, nil
}

// Forget makes Get look for credentials again.
func (c *Chain) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = Credentials{}
}

func (c *Chain) find(ctx context.Context) (Credentials, error) {
	if c.given.ID != "" {
		return c.given, nil
	}
	own := Credentials{ID: os.Getenv("AWS_ACCESS_KEY_ID"), Secret: os.Getenv("AWS_SECRET_ACCESS_KEY"), Token: os.Getenv("AWS_SESSION_TOKEN")}
	if own.ID != "" && own.Secret != "" {
		return own, nil
	}
	if os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") != "" {
		return c.webIdentity(ctx)
	}
	if own, err := fromFiles(); err != nil || own.ID != "" {
		return own, err
	}
	if at := containerAddress(); at != "" {
		return c.container(ctx, at)
	}
	found, err := c.machine(ctx)
	if err != nil {
		err = fmt.Errorf("there are none: %sset AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role (%w)", c.Hint, err)
	}
	return found, err
}

// webIdentity exchanges the token of a service account, as of a pod, for credentials.
// Source: docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html.
func (c *Chain) webIdentity(ctx context.Context) (Credentials, error) {
	token, err := os.ReadFile(os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE"))
	if err != nil {
		return Credentials{}, fmt.Errorf("AWS_WEB_IDENTITY_TOKEN_FILE: %w", err)
	}
	role := os.Getenv("AWS_ROLE_ARN")
	if role == "" {
		return Credentials{}, errors.New("AWS_WEB_IDENTITY_TOKEN_FILE is set, but not AWS_ROLE_ARN")
	}
	at := cmp.Or(os.Getenv("AWS_ENDPOINT_URL_STS"), "https://sts."+c.region+"."+Domain(c.region))
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {role},
		"RoleSessionName":  {cmp.Or(os.Getenv("AWS_ROLE_SESSION_NAME"), "cairn-"+strconv.FormatInt(time.Now().Unix(), 10))},
		"WebIdentityToken": {strings.TrimSpace(string(token))},
	}
	raw, err := send(ctx, c.client, "POST", at, strings.NewReader(form.Encode()), map[string]string{"Content-Type": "application/x-www-form-urlencoded"})
	if err != nil {
		return Credentials{}, fmt.Errorf("AssumeRoleWithWebIdentity of %s: %w", role, err)
	}
	var got struct {
		Result struct {
			Credentials struct {
				AccessKeyID     string `xml:"AccessKeyId"`
				SecretAccessKey string
				SessionToken    string
				Expiration      time.Time
			}
		} `xml:"AssumeRoleWithWebIdentityResult"`
	}
	if err := xml.Unmarshal(raw, &got); err != nil {
		return Credentials{}, fmt.Errorf("AssumeRoleWithWebIdentity of %s: parsing the response: %w", role, err)
	}
	k := got.Result.Credentials
	return complete(Credentials{k.AccessKeyID, k.SecretAccessKey, k.SessionToken, k.Expiration})
}

func complete(c Credentials) (Credentials, error) {
	if c.ID == "" || c.Secret == "" {
		return c, errors.New("the response has no key")
	}
	return c, nil
}

// fromFiles returns the key of a profile in AWS's files, or none.
func fromFiles() (Credentials, error) {
	home, _ := os.UserHomeDir() // without one there are no files
	profile := os.Getenv("AWS_PROFILE")
	inConfig := "default"
	if profile != "" && profile != "default" {
		inConfig = "profile " + profile
	}
	for _, f := range []struct{ path, section string }{
		{cmp.Or(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), filepath.Join(home, ".aws/credentials")), cmp.Or(profile, "default")},
		{cmp.Or(os.Getenv("AWS_CONFIG_FILE"), filepath.Join(home, ".aws/config")), inConfig},
	} {
		values := section(f.path, f.section)
		if values["aws_access_key_id"] != "" && values["aws_secret_access_key"] != "" {
			return Credentials{ID: values["aws_access_key_id"], Secret: values["aws_secret_access_key"], Token: values["aws_session_token"]}, nil
		}
	}
	if profile != "" {
		return Credentials{}, fmt.Errorf("AWS_PROFILE %q has no aws_access_key_id and aws_secret_access_key in AWS's files: other kinds of profiles are not supported", profile)
	}
	return Credentials{}, nil
}

// section returns the values of a section of an INI file.
func section(path, name string) map[string]string {
	values := map[string]string{}
	f, err := os.Open(path)
	if err != nil {
		return values
	}
	defer f.Close()
	inside := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			inside = strings.Join(strings.Fields(strings.Trim(line, "[]")), " ") == name
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok && inside && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ";") {
			values[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
		}
	}
	return values
}

// containerAddress returns the URL at which a container of ECS or a pod of EKS gets its
// credentials, or "".
func containerAddress() string {
	if path := os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
		return "http://169.254.170.2" + path
	}
	return os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
}

// container gets the credentials of a container.
// Source: docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html.
func (c *Chain) container(ctx context.Context, at string) (Credentials, error) {
	u, err := url.Parse(at)
	if err != nil {
		return Credentials{}, errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is not a URL")
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "https" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && ip.String() != "fd00:ec2::23") {
		return Credentials{}, fmt.Errorf("AWS_CONTAINER_CREDENTIALS_FULL_URI: %s is neither this machine nor reached over https", u.Host)
	}
	token := os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
	if file := os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
		raw, err := os.ReadFile(file)
		if err != nil {
			return Credentials{}, fmt.Errorf("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %w", err)
		}
		token = strings.TrimSpace(string(raw))
	}
	header := map[string]string{}
	if token != "" {
		header["Authorization"] = token
	}
	raw, err := send(ctx, c.local, "GET", at, nil, header)
	if err != nil {
		return Credentials{}, fmt.Errorf("credentials of the container: %w", err)
	}
	return parseRole(raw)
}

// machine gets the credentials of a machine's role from its metadata service.
// Source: docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html.
func (c *Chain) machine(ctx context.Context) (Credentials, error) {
	if off, _ := strconv.ParseBool(os.Getenv("AWS_EC2_METADATA_DISABLED")); off {
		return Credentials{}, errors.New("AWS_EC2_METADATA_DISABLED is set")
	}
	base := strings.TrimRight(cmp.Or(os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "http://169.254.169.254"), "/")
	token, err := send(ctx, c.local, "PUT", base+"/latest/api/token", nil, map[string]string{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "21600"})
	if err != nil {
		return Credentials{}, fmt.Errorf("metadata service: %w", err)
	}
	header := map[string]string{"X-Aws-Ec2-Metadata-Token": string(token)}
	const roles = "/latest/meta-data/iam/security-credentials/"
	role, err := send(ctx, c.local, "GET", base+roles, nil, header)
	if err != nil {
		return Credentials{}, fmt.Errorf("role of the metadata service: %w", err)
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(role)), "\n")
	raw, err := send(ctx, c.local, "GET", base+roles+url.PathEscape(name), nil, header)
	if err != nil {
		return Credentials{}, fmt.Errorf("role %q of the metadata service: %w", name, err)
	}
	return parseRole(raw)
}

func parseRole(raw []byte) (Credentials, error) {
	var got struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		Token           string
		Expiration      time.Time
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		return Credentials{}, fmt.Errorf("parsing the response: %w", err)
	}
	return complete(Credentials{got.AccessKeyID, got.SecretAccessKey, got.Token, got.Expiration})
}

// send sends a small request and returns the body of the response.
func send(ctx context.Context, client *http.Client, method, at string, body io.Reader, header map[string]string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, at, body)
	if err != nil {
		return nil, err
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	raw, status, err := exchange.Do(client, req)
	if err == nil && status != http.StatusOK {
		var told struct {
			Error struct{ Code, Message string }
		}
		_ = xml.Unmarshal(raw, &told)
		err = newError(status, told.Error.Code, told.Error.Message)
	}
	return raw, err
}

// Domain returns the domain of Amazon's services in a region.
func Domain(region string) string {
	if strings.HasPrefix(region, "cn-") {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

// Error is an error that a service reports.
type Error struct {
	Status  int
	Code    string
	Message string
}

func newError(status int, code, message string) *Error {
	return &Error{status, code[:min(len(code), 300)], message[:min(len(message), 300)]}
}

func (e *Error) Error() string {
	text := fmt.Sprintf("status %d", e.Status)
	if e.Code != "" {
		text += " " + e.Code
	}
	if e.Message != "" {
		text += fmt.Sprintf(": %q", e.Message)
	}
	return text
}
