package command

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/option"
)

// peerOptions are the values of flags of other builders, until all flags are known.
type peerOptions struct {
	command *cobra.Command

	debug             bool
	os, arch, variant string
	attributes        []string // of --output, for the image
	epoch             string
	fileArgs          map[string]string // of --build-arg-file
	proxies           bool
	manifest          string
	rawIDFile         string
	logFile           string
	credentials       string // never shown
	noVerify          bool   // --tls-verify=false
	certDir           string
	dns               dns
	capabilities      capabilities
}

// setText returns a function that stores the value of a flag.
func setText(field func(*peerOptions) *string) func(*buildCommand, string) error {
	return func(b *buildCommand, s string) error {
		if s == "" {
			return errors.New("the value is empty")
		}
		*field(&b.peer) = s
		return nil
	}
}

func setBool(field func(*buildCommand) *bool) func(*buildCommand, string) error {
	return func(b *buildCommand, s string) (err error) {
		*field(b), err = strconv.ParseBool(s)
		return err
	}
}

func setDebug(b *buildCommand, s string) (err error) {
	b.peer.debug, err = strconv.ParseBool(s)
	return err
}

func setPrint(b *buildCommand, s string) (err error) {
	b.call, err = option.ParseCall(s)
	return err
}

// setResource sets the limits of docker's --resource.
func setResource(b *buildCommand, s string) error {
	names := []string{"memory", "memory-swap", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems"}
	for pair := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(pair, "=")
		switch {
		case strings.HasPrefix(name, "cpuset-") && !ok: // the rest of a list of CPUs, as in 0,1
			continue
		case !ok || !slices.Contains(names, name):
			return fmt.Errorf("%q: want NAME=VALUE with one of %s", pair, strings.Join(names, ", "))
		}
		if err := b.peer.command.Flags().Lookup(name).Value.Set(value); err != nil {
			return fmt.Errorf("%s: %w", pair, withoutStrconv(err))
		}
	}
	return nil
}

func setPlatformPart(field func(*peerOptions) *string) func(*buildCommand, string) error {
	return func(b *buildCommand, s string) error {
		if s == "" || strings.ContainsAny(s, "/,") {
			return errors.New("want one name")
		}
		*field(&b.peer) = s
		return nil
	}
}

// setAttribute adds an attribute of --output for the image.
func setAttribute(b *buildCommand, key, value string) error {
	if strings.ContainsAny(value, `,"`) {
		return errors.New("want one word")
	}
	attribute := key + "=" + value
	if _, err := option.ParseOutput("type=image," + attribute); err != nil {
		return err
	}
	b.peer.attributes = append(b.peer.attributes, attribute)
	return nil
}

func setFormat(b *buildCommand, s string) error {
	formats := map[string]string{"docker": "false", "v2s2": "false", "oci": "true", "ociv1": "true"}
	if formats[s] == "" {
		return errors.New("want oci or docker")
	}
	return setAttribute(b, "oci-mediatypes", formats[s])
}

func setCompressionFormat(b *buildCommand, s string) error { return setAttribute(b, "compression", s) }
func setCompressionLevel(b *buildCommand, s string) error {
	return setAttribute(b, "compression-level", s)
}

func setForceCompression(b *buildCommand, s string) error {
	return setAttribute(b, "force-compression", s)
}

func setTimestamp(b *buildCommand, s string) error {
	if _, err := option.ParseEpoch(s); err != nil {
		return err
	}
	if b.peer.epoch != "" && b.peer.epoch != s {
		return fmt.Errorf("another flag says %s", b.peer.epoch)
	}
	b.peer.epoch = s
	return nil
}

func setReference(to *string, s string) error {
	*to = s
	return option.CheckReference(s)
}

func setTLSVerify(b *buildCommand, s string) error {
	on, err := strconv.ParseBool(s)
	b.peer.noVerify = !on
	return err
}

// setCredentials stores the value without a check: the error of a flag shows its value.
func setCredentials(b *buildCommand, s string) error {
	b.peer.credentials = s
	return nil
}

// setPullWord returns a function that sets a word of --pull.
func setPullWord(word string) func(*buildCommand, string) error {
	return func(b *buildCommand, s string) error {
		if on, err := strconv.ParseBool(s); err != nil || !on {
			return err
		}
		return b.setPull(word)
	}
}

func setProxies(b *buildCommand, s string) (err error) {
	b.peer.proxies, err = strconv.ParseBool(s)
	return err
}

// addArgFile reads the arguments of a file: NAME=VALUE, NAME for a variable of the
// environment, or # and a comment.
func addArgFile(b *buildCommand, name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok, err := option.ParseVariable(line, os.LookupEnv)
		if err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		if ok {
			if b.peer.fileArgs == nil {
				b.peer.fileArgs = map[string]string{}
			}
			b.peer.fileArgs[key] = value
		}
	}
	return nil
}

// addEnv adds a variable of the image; without a value, it is one of the environment.
func addEnv(b *buildCommand, s string) error {
	name, value, ok, err := option.ParseVariable(s, os.LookupEnv)
	if err == nil && ok {
		b.options.Env = append(b.options.Env, dockerfile.Pair{Key: name, Value: value})
	}
	return err
}

func setCacheTTL(b *buildCommand, s string) error {
	age, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return errors.New("want a duration, such as 24h")
	case age > 0:
		return errors.New("results in the cache have no largest age: use --no-cache to run all steps, or cairn prune --filter until=DURATION before the build")
	}
	b.options.NoCache = true
	return nil
}
