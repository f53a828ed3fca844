package command

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// addPeerFlags adds the flags of other builders that cairn build does not have itself.
// They are hidden in its help: the topic build-flags has them.
func (b *buildCommand) addPeerFlags(c *cobra.Command) {
	b.peer.command = c
	for _, flag := range peerFlags() {
		if flag.does == asOwn {
			continue
		}
		repeatedFlag(c.Flags(), flag.name, flag.short, cmp.Or(flag.kind, "bool"), cmp.Or(flag.help, plainText(flag.text)), func(s string) error { return b.setPeerFlag(flag, s) })
		added := c.Flags().Lookup(flag.name)
		added.Hidden = flag.help == ""
		if flag.kind == "" || flag.name == "sbom" {
			added.NoOptDefVal = "true"
		}
	}
}

// plainText removes the marks of Markdown.
func plainText(s string) string { return strings.ReplaceAll(s, "`", "") }

// setPeerFlag treats a value of a flag as the table says.
func (b *buildCommand) setPeerFlag(flag peerFlag, value string) error {
	if flag.kind == "" && flag.does != refused {
		if _, err := strconv.ParseBool(value); err != nil {
			return errors.New("want true or false")
		}
	}
	switch {
	case flag.does == quiet || flag.isHarmless(value):
		return nil
	case flag.does == mapped:
		return flag.set(b, value)
	case flag.does == notice:
		b.notices = append(b.notices, fmt.Sprintf("--%s has no effect: %s", flag.name, plainText(flag.text)))
		return nil
	}
	return errors.New(plainText(flag.text))
}

// isHarmless reports whether a value changes nothing here.
func (f *peerFlag) isHarmless(value string) bool {
	return slices.ContainsFunc(f.harmless, func(h string) bool {
		prefix, isPrefix := strings.CutSuffix(h, "*")
		return h == value || isPrefix && strings.HasPrefix(value, prefix)
	})
}

// fileFlag adds --file. Podman joins several files, and docker takes the last.
func (b *buildCommand) fileFlag(f *pflag.FlagSet) {
	file := &b.options.Dockerfile
	parsedFlag(f, "file", "f", "FILE", "FILE with the Dockerfile; - is standard input (default: Dockerfile, or else Containerfile, in CONTEXT)", func(s string) error {
		if *file != "" && *file != s {
			return fmt.Errorf("%q was specified before: docker would take the last file, and podman would join them: specify one", *file)
		}
		*file = s
		return nil
	})
}

// pullFlag adds --pull, which has the words of docker, podman and buildah.
func (b *buildCommand) pullFlag(c *cobra.Command) {
	parsedFlag(c.Flags(), "pull", "", "always|newer|missing|never", "Always attempt to pull all referenced images; newer: use an image of the store if that fails; missing: pull only those that the store lacks; never: use only images of the store", b.setPull)
	c.Flags().Lookup("pull").NoOptDefVal = "always"
	completeFlag(c, "pull", "always", "newer", "missing", "never")
}

func (b *buildCommand) setPull(word string) error {
	o := &b.options
	o.Pull, o.PullNewer, o.PullNever = false, false, false
	switch strings.ToLower(word) {
	case "always", "true", "1", "t":
		o.Pull = true
	case "newer", "ifnewer":
		o.Pull, o.PullNewer = true, true
	case "missing", "false", "0", "f", "ifmissing", "ifnotpresent", "notpresent":
	case "never":
		o.PullNever = true
	default:
		return errors.New("want one of always, newer, missing, never")
	}
	return nil
}

// networkFlag adds --network, which has the words of docker, podman and buildah.
func (b *buildCommand) networkFlag(c *cobra.Command) {
	words := []string{"default", "none", "host"}
	b.options.Network = words[0]
	c.Flags().Var(&parsedValue{kind: strings.Join(words, "|"), text: words[0], set: func(s string) error {
		kind, _, _ := strings.Cut(s, ":")
		switch {
		case slices.Contains(words, s):
			b.options.Network = s
		case slices.Contains([]string{"private", "bridge", "slirp4netns", "pasta"}, kind):
			b.options.Network = words[0]
			b.notices = append(b.notices, fmt.Sprintf("--network=%s: steps use the network of this machine", s))
		default:
			return fmt.Errorf("want one of %s", strings.Join(words, ", "))
		}
		return nil
	}}, "network", "Set the networking mode for the RUN instructions during build")
	completeFlag(c, "network", words...)
}
