package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
)

func newPull(p *Program) *cobra.Command {
	var r registryFlags
	var quiet, all bool
	var platform layer.Platform
	c := &cobra.Command{
		Use:   "pull [flags] IMAGE...",
		Short: "Pull images from their registries",
		Long:  `Pull downloads images with all their layers into the store, and prints each with its digest.`,
		Example: `  cairn pull debian:12
  cairn pull --platform linux/arm64 debian:12
  cairn pull --all-platforms debian:12`,
		Args: func(c *cobra.Command, args []string) error {
			for i := range args {
				args[i] = strings.TrimPrefix(args[i], "docker://") // as with podman
			}
			return imageArgs(c, args)
		},
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error {
		if all && platform.OS != "" {
			return usagef("--all-platforms and --platform contradict each other")
		}
		if err := errors.Join(checkContentTrust(), setDefaultPlatform(&platform)); err != nil {
			return err
		}
		var pulled digestLines
		err := p.withRegistries(r, quietMode(quiet), func(env *environment) error {
			env.Progress.Title("Pulling")
			for _, ref := range args {
				if err := pullImage(ctx, &pulled, env, ref, platform, all); err != nil {
					return cause(ctx, err)
				}
			}
			return nil
		})
		return errors.Join(err, pulled.print(p.Stdout))
	})
	f := c.Flags()
	r.flags(f)
	platformFlag(f, &platform, "Pull the image for this platform (default $DOCKER_DEFAULT_PLATFORM, or this machine's)")
	f.BoolVar(&all, "all-platforms", false, "Pull the images for all platforms, with their index")
	f.BoolVarP(&quiet, "quiet", "q", false, "Suppress verbose output")
	return c
}

// digestLines are lines of images with their digests. They are printed after the live
// display, which would draw over them.
type digestLines []string

func (l *digestLines) add(name string, d layer.Digest) {
	*l = append(*l, fmt.Sprintf("%s@%s\n", name, d))
}

func (l digestLines) print(w io.Writer) error {
	_, err := io.WriteString(w, strings.Join(l, ""))
	return err
}

// pullImage pulls an image and keeps the name from the command line, or the one that
// it is short for, with the digest.
func pullImage(ctx context.Context, lines *digestLines, env *environment, ref string, platform layer.Platform, all bool) error {
	pull := func() (string, layer.Digest, error) { return env.Pull(ctx, ref, platform) }
	if all {
		pull = func() (string, layer.Digest, error) { return env.PullAll(ctx, ref) }
	}
	name, digest, err := pull()
	if err != nil {
		return err
	}
	if full, err := reference.Normalize(ref); err == nil && full == name {
		name = ref
	}
	lines.add(name, digest)
	return nil
}
