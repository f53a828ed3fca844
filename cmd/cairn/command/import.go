package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/export"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
)

// importCommand is a run of cairn import.
type importCommand struct {
	*Program
	registries registryFlags
	source     string // file, URL or "-"
	changes    []string
	platform   layer.Platform
}

func newImport(p *Program) *cobra.Command {
	i := &importCommand{Program: p}
	c := &cobra.Command{
		Use:   "import [flags] FILE|URL|- [NAME[:TAG]]",
		Short: "Create an image from a filesystem in a tar archive",
		Long: `Import creates an image with one layer from a tar archive of a filesystem, compressed
or not, such as the output of cairn export, docker export or debootstrap. Owners, modes,
links and extended attributes are those of the archive. Import prints the image with its
digest. With $SOURCE_DATE_EPOCH set, no time in the image is later.`,
		Example: `  cairn import root.tar debian:mine
  docker export box | cairn import --change 'CMD ["sh"]' - box:1`,
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return usagef("FILE is missing: want FILE|URL|- [NAME[:TAG]]")
			case 1:
				return nil
			case 2:
				return checkReferenceArg(args[1])
			}
			return usagef("unexpected argument %q: want only FILE|URL|- [NAME[:TAG]]", args[2])
		},
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error {
		i.source = args[0]
		return i.run(ctx, args[1:])
	})
	f := c.Flags()
	listFlag(f, &i.changes, "change", "c", "INSTRUCTION", "Apply a Dockerfile instruction to the created image: "+strings.Join(configInstructions, ", "), parseChange)
	inputLimitFlag(f, &i.registries.limits)
	platformFlag(f, &i.platform, "Set platform of the image (default $DOCKER_DEFAULT_PLATFORM, or this machine's)")
	i.registries.flags(f)
	return c
}

// configInstructions are the instructions that docker import allows in --change.
var configInstructions = []string{"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}

// parseChange checks one instruction. Those with variables are checked again by
// [importCommand.checkChanges], which knows their values.
func parseChange(s string) (string, error) {
	words := strings.Fields(s)
	if len(words) == 0 || !slices.Contains(configInstructions, strings.ToUpper(words[0])) || strings.ContainsAny(s, "\n\r") {
		return "", fmt.Errorf("want one line with one of %s", strings.Join(configInstructions, ", "))
	}
	if end := strings.TrimRight(s, " \t"); strings.HasSuffix(end, `\`) && !strings.HasSuffix(end, `\\`) {
		return "", errors.New("want a whole instruction: a \\ at its end continues a line, and there is none")
	}
	_, err := dockerfile.Parse("--change", []byte("FROM scratch\n"+s+"\n"))
	var at *dockerfile.Error
	if errors.As(err, &at) {
		err = at.Err
	}
	return s, err
}

// run imports the image with the given tags and prints its name.
func (i *importCommand) run(ctx context.Context, tags []string) error {
	if err := setDefaultPlatform(&i.platform); err != nil {
		return err
	}
	var o buildOptions
	o.Tags = tags
	if i.platform.OS != "" {
		o.Platforms = []layer.Platform{i.platform}
	}
	if text := os.Getenv(epochVariable); text != "" {
		epoch, err := option.ParseEpoch(text)
		if err != nil {
			return usagef("$%s %q: %w", epochVariable, text, err)
		}
		o.Epoch = &epoch
	}
	return i.withRegistries(i.registries, quietMode(true), func(env *environment) error {
		built, err := i.build(ctx, env, o)
		if err != nil {
			return cause(ctx, err)
		}
		name := export.Untagged(built.Image.Digest)
		if len(built.Tags) > 0 {
			name = reference.Familiar(built.Tags[0]) + "@" + string(built.Digest())
		}
		_, err = fmt.Fprintln(i.Stdout, name)
		return err
	})
}

// importedArchive is the name of the archive in the context of the build.
const importedArchive = "root.tar"

// firstChange is the line of the first --change in the Dockerfile of the build.
const firstChange = 3

// build builds a Dockerfile that adds the archive to an empty image, with the changes.
func (i *importCommand) build(ctx context.Context, env *environment, o buildOptions) (*builder.Built, error) {
	dir, err := env.Store.TempDir("import-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // or the store does
	text := fmt.Sprintf("FROM scratch\nADD --unpack=true [%q, \"/\"]\n%s\n", importedArchive, strings.Join(i.changes, "\n"))
	if err := os.WriteFile(dir+"/Dockerfile", []byte(text), 0o600); err != nil {
		return nil, env.Store.Explain("import "+archiveName(i.source), err)
	}
	o.Context = dir
	session, err := env.session(o.SessionOptions)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	if err := i.checkChanges(ctx, session, o.Target); err != nil {
		return nil, err
	}
	if err := i.fetch(ctx, env, session, dir+"/"+importedArchive); err != nil {
		return nil, err
	}
	built, err := session.Build(ctx, o.Target)
	if err != nil {
		return nil, i.explain(err)
	}
	return built[0], nil
}

// checkChanges returns a usage error if the build could not apply the changes.
func (i *importCommand) checkChanges(ctx context.Context, session *builder.Session, t builder.Target) error {
	checked, err := session.Lint(ctx, t)
	if err != nil {
		return err
	}
	return i.explain(checked.Err)
}

// explain replaces the position of an error in the Dockerfile, which the user does not
// know, by the --change or the archive that it is about.
func (i *importCommand) explain(err error) error {
	var at *dockerfile.Error
	if !errors.As(err, &at) {
		return err
	}
	if len(at.Ranges) > 0 {
		if n := at.Ranges[0].First - firstChange; n >= 0 && n < len(i.changes) {
			return usagef("--change %q: %w", i.changes[n], at.Err)
		}
	}
	return &archiveError{at.Err, importedArchive, archiveName(i.source)}
}

// fetch makes the archive a file of the context.
func (i *importCommand) fetch(ctx context.Context, env *environment, session *builder.Session, to string) error {
	explain := func(err error) error { return env.Store.Explain("import "+archiveName(i.source), err) }
	if strings.HasPrefix(i.source, "http://") || strings.HasPrefix(i.source, "https://") {
		in, err := session.Download(ctx, i.source)
		if err != nil {
			return err
		}
		defer in.Close()
		return explain(copyArchive(in, i.source, to))
	}
	if err := checkExists("importing", i.source); err != nil {
		return err
	}
	path, remove, err := archiveFile(ctx, i.Stdin, env.Store, i.source)
	if err != nil {
		return err
	}
	defer remove()
	return explain(withArchiveName(linkArchive(path, to), path, i.source))
}

// linkArchive creates a hard link to an archive, or a copy if that is not possible. It
// returns an error if the file is not an archive.
func linkArchive(path, to string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := checkArchive(in, path); err != nil {
		return err
	}
	if target, err := filepath.EvalSymlinks(path); err == nil && os.Link(target, to) == nil {
		return nil
	}
	return copyArchive(in, path, to)
}

// checkArchive returns an error if the file called name is not an archive.
func checkArchive(in io.ReadSeeker, name string) error {
	head := make([]byte, source.ArchiveHead)
	n, err := io.ReadFull(in, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	if !source.IsArchive(head[:n]) {
		return fmt.Errorf("%s is not a tar archive: want one of a filesystem, as from cairn export", name)
	}
	_, err = in.Seek(0, io.SeekStart)
	return err
}

// copyArchive copies an archive to a new file. It returns an error if the file called
// name is not an archive.
func copyArchive(in io.ReadSeeker, name, to string) error {
	if err := checkArchive(in, name); err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
