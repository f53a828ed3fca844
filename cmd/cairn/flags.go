package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

// parsed is a flag whose text is read by a function of its own.
type parsed struct {
	kind string
	set  func(string) error
	text string
}

func (p *parsed) String() string { return p.text }
func (p *parsed) Type() string   { return p.kind }

func (p *parsed) Set(s string) error {
	if err := p.set(s); err != nil {
		return err
	}
	p.text = s
	return nil
}

// each is a flag that may be given again: set is called for each value.
type each struct{ parsed }

// Repeated keeps the values out of a flag's help, which shows its default.
func (e *each) String() string { return "" }

func eachVar(f *pflag.FlagSet, name, short, kind, usage string, set func(string) error) {
	f.VarP(&each{parsed{kind: kind, set: set}}, name, short, usage)
}

// oneOf is a flag with a few possible values, the first of which is the default.
func oneOf(c *cobra.Command, to *string, name, usage string, values ...string) {
	*to = values[0]
	c.Flags().Var(&parsed{kind: strings.Join(values, "|"), text: values[0], set: func(s string) error {
		for _, v := range values {
			if s == v {
				*to = s
				return nil
			}
		}
		return fmt.Errorf("want one of %s", strings.Join(values, ", "))
	}}, name, usage)
	_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// checkReference finds what is wrong with the name of an image.
func checkReference(s string) error {
	_, err := registry.Normalize(s)
	if err == nil {
		return nil
	}
	if why, ok := strings.CutPrefix(err.Error(), fmt.Sprintf("image reference %q: ", s)); ok {
		return errors.New(why) // the flag and its value are named already
	}
	return err
}

// platformFlag reads one platform.
func platformFlag(f *pflag.FlagSet, to *layer.Platform, usage string) {
	f.Var(&parsed{kind: "OS/ARCH[/VARIANT]", set: func(s string) (err error) {
		if strings.Contains(s, ",") {
			return fmt.Errorf("want one platform")
		}
		*to, err = layer.ParsePlatform(s)
		return err
	}}, "platform", usage)
}

// platformsFlag reads the platforms to build for.
func platformsFlag(f *pflag.FlagSet, to *[]layer.Platform) {
	platformList(f, to, "build for other platforms than this machine's; several, with commas between, become one index")
}

// chosenFlag reads those to take of an index.
func chosenFlag(f *pflag.FlagSet, to *[]layer.Platform) {
	platformList(f, to, "of an IMAGE that is an index, take only the images for these, with commas between")
}

// platformList reads platforms with commas between, as one flag or several.
func platformList(f *pflag.FlagSet, to *[]layer.Platform, usage string) {
	eachVar(f, "platform", "", "OS/ARCH[/VARIANT]", usage, func(s string) error {
		for text := range strings.SplitSeq(s, ",") {
			p, err := layer.ParsePlatform(strings.TrimSpace(text))
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(*to, func(q layer.Platform) bool { return q.Full() == p.Full() }) {
				*to = append(*to, p)
			}
		}
		return nil
	})
}

// labelFlag reads NAME=VALUE into a map.
func labelFlag(f *pflag.FlagSet, to map[string]string) {
	eachVar(f, "label", "", "NAME=VALUE", "add a label to the image", func(s string) error {
		name, value, _ := strings.Cut(s, "=")
		if name == "" {
			return fmt.Errorf("want NAME=VALUE")
		}
		to[name] = value
		return nil
	})
}

// argFlag reads NAME=VALUE, or NAME alone for a variable of the environment; one
// that is not set there stays unset.
func argFlag(f *pflag.FlagSet, to map[string]string) {
	eachVar(f, "build-arg", "", "NAME[=VALUE]", "set an ARG; without a value, to that of the environment", func(s string) error {
		name, value, ok := strings.Cut(s, "=")
		if name == "" {
			return fmt.Errorf("want NAME=VALUE or NAME")
		}
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				return nil
			}
		}
		to[name] = value
		return nil
	})
}

// gateway is docker's word for the machine that builds. A step shares its network,
// so that is the loopback: of IPv4, where whoever serves containers listens.
const gateway, gatewayIP = "host-gateway", "127.0.0.1"

// hostFlag reads NAME:IP or NAME=IP.
func hostFlag(f *pflag.FlagSet, to *[]string) {
	eachVar(f, "add-host", "", "NAME:IP", "add a line to the /etc/hosts of each RUN; "+gateway+" is this machine, "+gatewayIP, func(s string) error {
		i := strings.IndexAny(s, ":=")
		if i < 1 {
			return fmt.Errorf("want NAME:IP")
		}
		ip := strings.TrimSuffix(strings.TrimPrefix(s[i+1:], "["), "]")
		if ip == gateway {
			ip = gatewayIP
		}
		if _, err := netip.ParseAddr(ip); err != nil {
			return fmt.Errorf("%q is no IP address, nor "+gateway, s[i+1:])
		}
		*to = append(*to, s[:i]+":"+ip)
		return nil
	})
}

// secretFlag reads where a secret is.
func secretFlag(f *pflag.FlagSet, to *[]secret.Source) {
	eachVar(f, "secret", "", "id=ID[,src=FILE|,env=NAME]", "let a RUN use the content of a file or variable, with --mount=type=secret", func(text string) error {
		s, err := secret.Parse(text)
		*to = append(*to, s)
		return err
	})
}
