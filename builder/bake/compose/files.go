package compose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/consts"
	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/compose-spec/compose-go/v2/utils"
	"go.yaml.in/yaml/v4"

	"github.com/cairn-build/cairn/builder/bake/compose/lazyschema"
)

// Options select the Compose files of a project and the variables that they use. The
// zero value of each field is the default of docker compose.
type Options struct {
	Files      []string // "-" is standard input; none: $COMPOSE_FILE, or the files of this directory or the nearest parent that has them
	ProjectDir string   // "": the directory of the first file
	Name       string   // of the project; "": $COMPOSE_PROJECT_NAME, name: of the files, or the name of the project directory
	Profiles   []string // none: $COMPOSE_PROFILES
	EnvFiles   []string // none: $COMPOSE_ENV_FILES, or .env

	Compatibility bool // image names have "_" between the names of project and service; else if $COMPOSE_COMPATIBILITY is set
	NoInterpolate bool // leave variables as they are
	NoNormalize   bool // leave out the defaults
	NoPaths       bool // leave paths relative
	NoConsistency bool // do not check references between services
}

// sources are the contents of the files of a project, before they are evaluated.
type sources struct {
	types.ConfigDetails
	options []func(*loader.Options)
	remote  bool                 // the files come from a URL
	check   func(*sources) error // evaluates the files; nil: loads the model
}

// loadModel evaluates the files and returns the tree of YAML values.
func (s *sources) loadModel(ctx context.Context) (map[string]any, error) {
	lazyschema.Init()
	return guarded(s, func() (map[string]any, error) {
		return loader.LoadModelWithContext(ctx, s.ConfigDetails, s.options...)
	})
}

// guarded calls a function of compose-go, which panics on some values that have no
// meaning, such as a context that is null.
func guarded[T any](s *sources, f func() (T, error)) (result T, err error) {
	if err := checkDocuments(s.ConfigFiles); err != nil {
		return result, err
	}
	defer func() {
		if r := recover(); r != nil {
			var names []string
			for _, file := range s.ConfigFiles {
				names = append(names, file.Filename)
				err = errors.Join(err, nullContexts(file.Content))
			}
			if err != nil {
				return
			}
			err = fmt.Errorf("%s: a value is of a kind that has no meaning at its place, such as null: %v; compare the file with the Compose specification", strings.Join(names, ", "), r)
		}
	}()
	return f()
}

// nullContexts returns an error for the build contexts of services that are null.
func nullContexts(text []byte) error {
	var file struct {
		Services map[string]struct {
			Build map[string]any
		}
	}
	if yaml.Unmarshal(text, &file) != nil {
		return nil
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(file.Services)) {
		build := file.Services[name].Build
		if value, ok := build["context"]; ok && value == nil {
			errs = append(errs, fmt.Errorf("services.%s.build.context must be a string", name))
		}
		more, _ := build["additional_contexts"].(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(more)) {
			if more[key] == nil {
				errs = append(errs, fmt.Errorf("services.%s.build.additional_contexts.%s must be a string", name, key))
			}
		}
	}
	return errors.Join(errs...)
}

// find reads the files and variables of a project.
func (o Options) find(ctx context.Context) (*sources, error) {
	if err := importDotEnv(o); err != nil {
		return nil, err
	}
	if len(o.EnvFiles) == 0 {
		o.EnvFiles = strings.FieldsFunc(os.Getenv("COMPOSE_ENV_FILES"), func(r rune) bool { return r == ',' })
	}
	wd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	found, err := cli.NewProjectOptions(o.Files,
		cli.WithResourceLoader(remoteRefuser{}), cli.WithWorkingDirectory(o.ProjectDir), cli.WithOsEnv, withDir(wd),
		// The file .env may name the Compose files, and their directory may have another .env.
		cli.WithEnvFiles(o.EnvFiles...), cli.WithDotEnv, cli.WithConfigFileEnv, cli.WithDefaultConfigPath,
		cli.WithEnvFiles(o.EnvFiles...), cli.WithDotEnv, cli.WithName(o.Name))
	if err != nil {
		return nil, err
	}
	dir, err := found.GetWorkingDir()
	if err != nil {
		return nil, err
	}
	details, err := found.ReadConfigFiles(ctx, dir, found)
	if err != nil {
		if len(found.ConfigPaths) == 0 {
			return nil, fmt.Errorf("no Compose file in %s or a parent directory: want compose.yaml, compose.yml, docker-compose.yml or docker-compose.yaml, or --file", wd)
		}
		return nil, err
	}
	details.Environment = found.Environment
	s := &sources{ConfigDetails: *details}
	s.options = o.loadOptions(found, projectName(found, s))
	return s, nil
}

// withDir sets the variable of the working directory, if the environment has none.
func withDir(wd string) cli.ProjectOptionsFn {
	return func(o *cli.ProjectOptions) error {
		if _, ok := o.Environment["PWD"]; !ok {
			o.Environment["PWD"] = wd
		}
		return nil
	}
}

// importDotEnv sets the variables of .env that begin with COMPOSE_, as docker compose
// does before it looks for files.
func importDotEnv(o Options) error {
	found, err := cli.NewProjectOptions(o.Files, cli.WithResourceLoader(remoteRefuser{}), cli.WithWorkingDirectory(o.ProjectDir), cli.WithOsEnv, cli.WithEnvFiles(o.EnvFiles...))
	if err != nil {
		return err
	}
	env, err := dotenv.GetEnvFromFile(found.Environment, found.EnvFiles)
	if err != nil {
		return fmt.Errorf("read variables: %w", err)
	}
	for name, value := range env {
		if _, set := os.LookupEnv(name); !set && strings.HasPrefix(name, "COMPOSE_") {
			if err := os.Setenv(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// projectName returns the option that names the project.
func projectName(found *cli.ProjectOptions, s *sources) func(*loader.Options) {
	return func(o *loader.Options) {
		switch name := found.Environment[consts.ComposeProjectName]; {
		case found.Name != "":
			o.SetProjectName(found.Name, true)
		case name != "":
			o.SetProjectName(name, true)
		case !s.named():
			o.SetProjectName(loader.NormalizeProjectName(filepath.Base(s.WorkingDir)), false)
		}
	}
}

// loadOptions returns the options of the loader.
func (o Options) loadOptions(found *cli.ProjectOptions, name func(*loader.Options)) []func(*loader.Options) {
	profiles := o.Profiles
	if len(profiles) == 0 {
		for p := range strings.SplitSeq(found.Environment[consts.ComposeProfiles], ",") {
			profiles = append(profiles, strings.TrimSpace(p))
		}
	}
	return []func(*loader.Options){
		loader.WithProfiles(profiles),
		name,
		func(l *loader.Options) {
			l.SkipInterpolation, l.SkipNormalization, l.SkipConsistencyCheck = o.NoInterpolate, o.NoNormalize, o.NoConsistency
			l.ResolvePaths = !o.NoPaths
			l.ConvertWindowsPaths = l.ResolvePaths && utils.StringToBool(found.Environment["COMPOSE_CONVERT_WINDOWS_PATHS"])
			// Files that only running services need may be missing.
			l.SkipResolveEnvironment, l.SkipResolveLabels = true, true
			l.ResourceLoaders = append(l.ResourceLoaders, remoteRefuser{})
		},
	}
}

// remoteRefuser refuses Compose files in repositories and registries.
type remoteRefuser struct{}

func (remoteRefuser) Accept(path string) bool {
	scheme, _, ok := strings.Cut(path, "://")
	return ok && !strings.ContainsAny(scheme, "/.") || strings.HasPrefix(path, "git@") || strings.HasPrefix(path, "oci:")
}

func (remoteRefuser) Load(_ context.Context, path string) (string, error) {
	return "", fmt.Errorf("%s: Compose files of a git repository or a registry are not supported: fetch it and name the file: %w", path, errors.ErrUnsupported)
}

func (remoteRefuser) Dir(path string) string { return path }

// localRefuser refuses files of this machine that a Compose file from a URL names.
type localRefuser struct{}

func (localRefuser) Accept(string) bool { return true }

func (localRefuser) Load(_ context.Context, path string) (string, error) {
	return "", fmt.Errorf("%s: a definition from a URL cannot include or extend other files: name them all with --file, or check the repository out: %w", path, errors.ErrUnsupported)
}

func (localRefuser) Dir(path string) string { return path }
