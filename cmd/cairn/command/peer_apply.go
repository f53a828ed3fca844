package command

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/atomicfile"
	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/transport"
)

// applyPeerFlags applies the flags of other builders when all flags are known.
func (b *buildCommand) applyPeerFlags() error {
	p := &b.peer
	if err := b.applyPlatformParts(); err != nil {
		return err
	}
	if given, ok := b.options.Args[epochVariable]; ok && p.epoch != "" && given != p.epoch {
		return usagef("--build-arg %s=%s contradicts --timestamp or --source-date-epoch %s", epochVariable, given, p.epoch)
	}
	if p.epoch != "" {
		b.options.Args[epochVariable] = p.epoch
	}
	b.addArgs(p.fileArgs)
	if p.proxies {
		b.addArgs(proxiesInEnvironment())
	}
	if err := b.applyStepFlags(); err != nil {
		return err
	}
	if err := b.applyRegistryFlags(); err != nil {
		return err
	}
	return b.checkPolicyFile()
}

// applyPlatformParts sets the platform of --os, --arch and --variant.
func (b *buildCommand) applyPlatformParts() error {
	p := &b.peer
	if p.os+p.arch+p.variant == "" {
		return nil
	}
	if len(b.options.Platforms) > 0 {
		return usagef("--platform and --os, --arch or --variant exclude each other")
	}
	platform := layer.HostPlatform()
	if p.arch != "" {
		platform.Architecture, platform.Variant = p.arch, ""
	}
	if p.os != "" {
		platform.OS = p.os
	}
	if p.variant != "" {
		platform.Variant = p.variant
	}
	parsed, err := option.ParsePlatform(platform.String())
	if err != nil {
		return &UsageError{err}
	}
	b.options.Platforms = []layer.Platform{parsed}
	return nil
}

// addArgs adds build arguments that are not on the command line.
func (b *buildCommand) addArgs(args map[string]string) {
	for name, value := range args {
		if _, ok := b.options.Args[name]; !ok {
			b.options.Args[name] = value
		}
	}
}

// proxiesInEnvironment returns the proxy variables of the environment.
func proxiesInEnvironment() map[string]string {
	found := map[string]string{}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"} {
		for _, name := range []string{name, strings.ToLower(name)} {
			if value := os.Getenv(name); value != "" {
				found[name] = value
			}
		}
	}
	return found
}

// applyRegistryFlags applies --creds, --tls-verify and --cert-dir to the registries of
// the names on the command line.
func (b *buildCommand) applyRegistryFlags() error {
	p, hosts := &b.peer, b.namedRegistries()
	if p.credentials != "" {
		user, password, ok := strings.Cut(p.credentials, ":")
		switch {
		case !ok || user == "":
			return usagef("--creds: want USER:PASSWORD")
		case len(hosts) != 1:
			return usagef("--creds: the names on the command line are of %s: use cairn login for each registry", countRegistries(hosts))
		}
		b.registries.login = &login{hosts[0], user, password}
	}
	if p.noVerify {
		named := slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return h == reference.Hub })
		if b.registries.alsoLenient = append(b.registries.alsoLenient, named...); len(named) == 0 {
			b.notices = append(b.notices, "--tls-verify=false has no effect, as no name on the command line has a registry: use --insecure-registry HOST")
		}
	}
	if p.certDir == "" {
		return nil
	}
	if len(hosts) == 0 {
		return usagef("--cert-dir: no name on the command line has a registry: use --registry-certificate")
	}
	for _, host := range hosts {
		if err := b.registries.addCertDir(host, p.certDir); err != nil {
			return err
		}
	}
	return nil
}

func countRegistries(hosts []string) string {
	if len(hosts) == 0 {
		return "no registry"
	}
	return "several registries, " + strings.Join(hosts, ", ")
}

// namedRegistries returns the registries of the names on the command line.
func (b *buildCommand) namedRegistries() (hosts []string) {
	names := slices.Clone(b.options.Tags)
	for _, out := range b.outputs {
		names = append(names, out.Names...)
	}
	if b.options.From != "" {
		names = append(names, b.options.From)
	}
	for _, c := range b.options.Contexts {
		if name, ok := strings.CutPrefix(c.Value, "docker-image://"); ok {
			names = append(names, name)
		}
	}
	if b.peer.manifest != "" {
		names = append(names, b.peer.manifest)
	}
	for _, name := range names {
		full, err := reference.Normalize(name)
		if err != nil {
			continue // reported elsewhere
		}
		if host, _, _ := strings.Cut(full, "/"); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// addCertDir adds the certificates of a directory in the form of podman's for one
// registry: authorities are *.crt, client certificates *.cert with *.key.
func (r *registryFlags) addCertDir(host, dir string) error {
	if _, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("--cert-dir: %w", err)
	}
	authorities, _ := filepath.Glob(filepath.Join(dir, "*.crt")) // the pattern is valid
	clients, _ := filepath.Glob(filepath.Join(dir, "*.cert"))
	if len(authorities)+len(clients) == 0 {
		return fmt.Errorf("--cert-dir: %s has neither *.crt nor *.cert", dir)
	}
	r.authorities[host] = append(r.authorities[host], authorities...)
	for _, cert := range clients {
		r.certs[host] = transport.ClientCert{Cert: cert, Key: strings.TrimSuffix(cert, ".cert") + ".key"}
	}
	return nil
}

// imageOutput returns an output with the attributes of --format and others, which apply
// to all outputs, or nil if there are none.
func (p *peerOptions) imageOutput() ([]option.Output, error) {
	if len(p.attributes) == 0 {
		return nil, nil
	}
	out, err := option.ParseOutput("type=image," + strings.Join(p.attributes, ","))
	return []option.Output{out}, err
}

// checkPolicyFile returns an error if there is a policy beside the Dockerfile, which
// buildx would evaluate.
func (b *buildCommand) checkPolicyFile() error {
	file := b.options.Dockerfile
	switch {
	case b.peer.command != nil && b.peer.command.Flags().Changed("policy"): // disabled=true
		return nil
	case file == "" && isDir(b.options.Context):
		file = filepath.Join(b.options.Context, "Dockerfile")
	}
	if _, err := os.Stat(file + ".rego"); file == "" || file == "-" || err != nil {
		return nil
	}
	return usagef("%s.rego is a policy of buildx, which cairn does not evaluate: pass --policy disabled=true to build without it", file)
}

// openLog makes the file of --logfile the standard error of the build, and returns a
// function that closes it.
func (b *buildCommand) openLog() (func() error, error) {
	if b.peer.logFile == "" {
		return func() error { return nil }, nil
	}
	f, err := atomicfile.Create(b.peer.logFile)
	if err != nil {
		return nil, fmt.Errorf("--logfile: %w", err)
	}
	program := *b.Program
	program.Stderr = f
	b.Program = &program
	return f.Close, nil
}

// addToManifest adds the image to the index of --manifest.
func (b *buildCommand) addToManifest(env *environment, built *builder.Built) error {
	if b.peer.manifest == "" {
		return nil
	}
	joined, err := env.AddToIndex(b.peer.manifest, images.IndexOptions{Amend: true}, built.Image, built.Index)
	if err == nil && b.verbose() {
		fmt.Fprintf(b.Stderr, "added to %s@%s\n", b.peer.manifest, joined.Index.Digest)
	}
	return err
}
