package option

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/sshagent"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
)

// CheckReference reports the mistake in an image reference. The error does not
// repeat the reference.
func CheckReference(s string) error {
	_, err := reference.Normalize(s)
	if err == nil {
		return nil
	}
	if problem, ok := strings.CutPrefix(err.Error(), fmt.Sprintf("image reference %q: ", s)); ok {
		return errors.New(problem)
	}
	return err
}

// ParsePair parses NAME=VALUE.
func ParsePair(text string) (name, value string, err error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return "", "", errors.New("want NAME=VALUE")
	}
	return name, value, nil
}

// ParseLabel parses a value of --label, NAME[=VALUE].
func ParseLabel(text string) (name, value string, err error) {
	name, value, _ = strings.Cut(text, "=")
	if name == "" {
		return "", "", errors.New("want NAME=VALUE")
	}
	return name, value, nil
}

// ParseVariable parses NAME=VALUE, or NAME for the variable of that name in the
// environment, which lookup reads as [os.LookupEnv] does. It reports false if the
// environment has no such variable.
func ParseVariable(text string, lookup func(string) (string, bool)) (name, value string, ok bool, err error) {
	name, value, ok = strings.Cut(text, "=")
	if name == "" {
		return "", "", false, errors.New("want NAME=VALUE or NAME")
	}
	if !ok {
		value, ok = lookup(name)
	}
	return name, value, ok, nil
}

// ParsePlatform parses one platform; local is this machine's.
func ParsePlatform(text string) (layer.Platform, error) {
	if strings.Contains(text, ",") {
		return layer.Platform{}, errors.New("want a single platform")
	}
	return parsePlatform(text)
}

// localPlatform is buildx's name for the platform of this machine.
const localPlatform = "local"

func parsePlatform(text string) (layer.Platform, error) {
	if strings.EqualFold(text, localPlatform) {
		return layer.HostPlatform(), nil
	}
	return layer.ParsePlatform(text)
}

// AddPlatforms parses platforms separated by commas and appends to list those
// that it does not contain.
func AddPlatforms(list []layer.Platform, text string) ([]layer.Platform, error) {
	for part := range strings.SplitSeq(text, ",") {
		p, err := parsePlatform(strings.TrimSpace(part))
		if err != nil {
			return list, err
		}
		if !slices.ContainsFunc(list, func(q layer.Platform) bool { return q.Full() == p.Full() }) {
			list = append(list, p)
		}
	}
	return list, nil
}

// Context is a value of --build-context: it replaces the stage or image Name.
type Context struct {
	Name  string // may end with a platform, as in alpine::linux/arm64
	Value string // directory, archive or URL; docker-image://REF; oci-layout://DIR[:TAG][@DIGEST]
}

// ParseContext parses a value of --build-context.
func ParseContext(text string) (Context, error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" || value == "" {
		return Context{}, errors.New("want NAME=VALUE")
	}
	if image, ok := strings.CutPrefix(value, "docker-image://"); ok {
		if err := CheckReference(image); err != nil {
			return Context{}, err
		}
	}
	return Context{Name: name, Value: value}, nil
}

// HostGateway is Docker's name for the machine that builds. Steps share its
// network, so its address is the IPv4 loopback address.
const (
	HostGateway   = "host-gateway"
	HostGatewayIP = "127.0.0.1"
)

// ParseHost parses a value of --add-host, NAME:IP or NAME=IP, and returns it as
// NAME:IP.
func ParseHost(text string) (string, error) {
	i := strings.IndexAny(text, ":=")
	if i < 1 {
		return "", errors.New("want NAME:IP")
	}
	ip := strings.TrimSuffix(strings.TrimPrefix(text[i+1:], "["), "]")
	if ip == HostGateway {
		ip = HostGatewayIP
	}
	if _, err := netip.ParseAddr(ip); err != nil {
		return "", fmt.Errorf("%q is not an IP address: want NAME:IP or NAME:%s", text[i+1:], HostGateway)
	}
	return text[:i] + ":" + ip, nil
}

// Entitlements lists the values of --allow.
func Entitlements() []string { return []string{plan.AllowInsecure, plan.AllowHostNetwork} }

// ParseAllow parses a value of --allow, entitlements separated by commas.
func ParseAllow(text string) ([]string, error) {
	list := strings.Split(text, ",")
	for _, name := range list {
		if !slices.Contains(Entitlements(), name) {
			return nil, fmt.Errorf("unknown entitlement %q: want %s", name, strings.Join(Entitlements(), " or "))
		}
	}
	return list, nil
}

// ParseUlimit parses a value of --ulimit, NAME=SOFT[:HARD].
func ParseUlimit(text string) (op.Ulimit, error) {
	l, err := units.ParseUlimit(text)
	var number *strconv.NumError
	if errors.As(err, &number) {
		err = fmt.Errorf("invalid limit %q: %q is no number: want NAME=SOFT[:HARD], such as nofile=1024:2048", text, number.Num)
	}
	if err != nil {
		return op.Ulimit{}, err
	}
	return op.Ulimit{Name: l.Name, Soft: l.Soft, Hard: l.Hard}, nil
}

// ParseLimit parses a value of --limit, NAME=N. Limits whose names end with -size
// may have a unit. It does not check the name.
func ParseLimit(text string) (name string, n int64, err error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return "", 0, errors.New("want NAME=N, such as layer-size=10g")
	}
	n, err = strconv.ParseInt(value, 10, 64)
	if err != nil && strings.HasSuffix(name, "-size") {
		n, err = units.RAMInBytes(value)
	}
	if err != nil {
		return "", 0, fmt.Errorf("%s: want a whole number, or a size such as 10g for limits of size", name)
	}
	return name, n, nil
}

// ParseMemory parses a number of bytes with binary units, as in 512m.
func ParseMemory(text string) (int64, error) {
	n, err := units.RAMInBytes(text)
	if err != nil || n <= 0 {
		return 0, errors.New("want a size, such as 512m or 2g")
	}
	return n, nil
}

// ParseSize parses a number of bytes with decimal units, as in 20GB.
func ParseSize(text string) (int64, error) {
	n, err := units.FromHumanSize(text)
	if err != nil || n <= 0 {
		return 0, errors.New("want a size, such as 20GB")
	}
	return n, nil
}

// ParseDuration parses a positive duration.
func ParseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, errors.New("want a duration, such as 30m or 1h30m")
	}
	return d, nil
}

// secretValue is a secret while its attributes are parsed.
type secretValue struct {
	secret.Source
	kind string
}

var secretAttributes = table[secretValue]{
	{key: "id", set: setText(func(s *secretValue) *string { return &s.ID })},
	{key: "src", aliases: []string{"source"}, set: setText(func(s *secretValue) *string { return &s.File })},
	{key: "env", set: setText(func(s *secretValue) *string { return &s.Env })},
	{key: "type", set: func(s *secretValue, _, value string) error {
		if s.kind = value; value != "file" && value != "env" {
			return fmt.Errorf("type %q is not supported: want file or env", value)
		}
		return nil
	}},
}

// ParseSecret parses a value of --secret, id=ID with src=FILE or env=NAME. With
// type=env, src is the name of a variable.
func ParseSecret(text string) (secret.Source, error) {
	fields, err := splitList(text)
	if err != nil {
		return secret.Source{}, err
	}
	var s secretValue
	if _, err := secretAttributes.parse(&s, fields); err != nil {
		return secret.Source{}, err
	}
	if s.kind == "env" && s.Env == "" {
		s.Env, s.File = s.File, ""
	}
	if s.ID == "" {
		return secret.Source{}, errors.New("id is missing: want id=ID[,src=FILE|,env=NAME]")
	}
	return s.Source, nil
}

// ParseSSH parses a value of --ssh: default, or ID with =SOCKET or =KEY,...
func ParseSSH(text string) (sshagent.Source, error) {
	id, paths, found := strings.Cut(text, "=")
	switch {
	case id == "":
		return sshagent.Source{}, errors.New("the id is missing: want default or ID[=SOCKET|KEY[,KEY]]")
	case !found || paths == "":
		return sshagent.Source{ID: id}, nil
	}
	return sshagent.Source{ID: id, Paths: strings.Split(paths, ",")}, nil
}
