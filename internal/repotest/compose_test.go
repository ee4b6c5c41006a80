package repotest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// composeFile is the part of a compose file that the rules are about. Ports and volumes are read in their short form
// only: a long one does not decode, and so is a problem too.
type composeFile struct {
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]any            `yaml:"volumes"`
}

type composeService struct {
	Profiles    []string          `yaml:"profiles"`
	Image       string            `yaml:"image"`
	Privileged  bool              `yaml:"privileged"`
	NetworkMode string            `yaml:"network_mode"`
	CapAdd      []string          `yaml:"cap_add"`
	Restart     string            `yaml:"restart"`
	Environment map[string]string `yaml:"environment"`
	Ports       []string          `yaml:"ports"`
	Volumes     []string          `yaml:"volumes"`
	DependsOn   map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	HealthCheck struct {
		Test     any    `yaml:"test"`
		Interval string `yaml:"interval"`
		Timeout  string `yaml:"timeout"`
		Retries  int    `yaml:"retries"`
		Disable  bool   `yaml:"disable"`
	} `yaml:"healthcheck"`
}

var (
	pinnedImage  = regexp.MustCompile(`^[a-z0-9./_-]+(:\d+\.\d+[\w.-]*|(:[\w.-]+)?@sha256:[0-9a-f]{64})$`)
	overridable  = regexp.MustCompile(`^\$\{[A-Z_]+:-[^}]+\}$`)
	secretName   = regexp.MustCompile(`PASSWORD|SECRET|TOKEN|AUTH`)
	urlPassword  = regexp.MustCompile(`^\w+://[^/]*?:(.*)@`)
	sourceMount  = regexp.MustCompile(`^\.(/[\w./-]+)?:/[^:]+:ro$`)
	saneRestarts = []string{"no", "on-failure", "unless-stopped"}
)

// composeProblems returns what is wrong with a compose file that has to start the required services.
func composeProblems(data []byte, required ...string) []string {
	var file composeFile
	if err := yaml.Unmarshal(data, &file); err != nil {
		return []string{err.Error()}
	}
	var problems []string
	for _, name := range required {
		if _, ok := file.Services[name]; !ok {
			problems = append(problems, "no service "+name)
		}
	}
	used := map[string]bool{}
	for name, service := range file.Services {
		own := append(service.problems(file.awaited(name)), file.relations(service)...)
		for _, problem := range own {
			problems = append(problems, name+": "+problem)
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			used[source] = true
			if _, ok := file.Volumes[source]; !ok && !sourceMount.MatchString(volume) {
				problems = append(problems, fmt.Sprintf("%s: volume %q is neither a declared one nor a read-only part of the repository", name, volume))
			}
		}
	}
	for volume := range file.Volumes {
		if !used[volume] {
			problems = append(problems, fmt.Sprintf("volume %q is not used", volume))
		}
	}
	slices.Sort(problems)
	return problems
}

// awaited tells whether another service waits for the end of this one: it does its work and stops.
func (f composeFile) awaited(name string) bool {
	for _, other := range f.Services {
		if other.DependsOn[name].Condition == "service_completed_successfully" {
			return true
		}
	}
	return false
}

// relations returns what is wrong with how a service refers to others.
func (f composeFile) relations(s composeService) []string {
	var problems []string
	if name, ok := strings.CutPrefix(s.NetworkMode, "service:"); ok {
		if owner, known := f.Services[name]; !known || owner.NetworkMode != "" {
			problems = append(problems, fmt.Sprintf("shares the network of %q, which is no service with its own", name))
		}
		if len(s.Ports) > 0 {
			problems = append(problems, "publishes ports of a network that is another service's")
		}
	}
	for name, on := range s.DependsOn {
		other, ok := f.Services[name]
		if !ok {
			problems = append(problems, fmt.Sprintf("depends on %q, which is no service", name))
			continue
		}
		for _, profile := range other.Profiles {
			if !slices.Contains(s.Profiles, profile) {
				problems = append(problems, fmt.Sprintf("depends on %s, which starts only with --profile %s", name, profile))
			}
		}
		if on.Condition != "service_healthy" && on.Condition != "service_completed_successfully" {
			problems = append(problems, fmt.Sprintf("does not wait until %s is ready: condition is %q", name, on.Condition))
		}
	}
	return problems
}

// problems returns what is wrong with a service by itself. One that stops when its work is done has no health; data is kept by
// those that always start.
func (s composeService) problems(stops bool) []string {
	var problems []string
	require := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Sprintf(format, args...))
		}
	}
	require(pinnedImage.MatchString(s.Image), "image %q is not pinned to a version or digest", s.Image)
	require(!s.Privileged, "is privileged")
	require(s.NetworkMode == "" || strings.HasPrefix(s.NetworkMode, "service:"), "network_mode is %q", s.NetworkMode)
	require(len(s.CapAdd) == 0, "adds capabilities %q", s.CapAdd)
	require(slices.Contains(saneRestarts, s.Restart), "restart is %q, want one of %q", s.Restart, saneRestarts)
	require(len(s.Volumes) > 0 || len(s.Profiles) > 0, "keeps its data in no volume")
	for _, port := range s.Ports {
		require(strings.HasPrefix(port, "127.0.0.1:"), "port %q is not bound to 127.0.0.1", port)
	}
	for name, value := range s.Environment {
		if secretName.MatchString(name) {
			require(overridable.MatchString(value), "%s is not ${NAME:-default}", name)
		}
		if password := urlPassword.FindStringSubmatch(value); password != nil {
			require(overridable.MatchString(password[1]), "%s has a password that is not ${NAME:-default}", name)
		}
	}
	check := s.HealthCheck
	if stops {
		require(s.Restart == "no", "is started again when its work is done: restart is %q", s.Restart)
		return problems
	}
	require(check.Test != nil && check.Test != "" && !check.Disable, "has no health check")
	require(positive(check.Interval), "health check interval is %q", check.Interval)
	require(positive(check.Timeout), "health check timeout is %q", check.Timeout)
	require(check.Retries > 0, "health check retries is %d", check.Retries)
	return problems
}

func positive(duration string) bool {
	d, err := time.ParseDuration(duration)
	return err == nil && d > 0
}

func TestComposeFile(t *testing.T) {
	data := readFile(t, "docker-compose.yml")
	for _, problem := range composeProblems(data, "postgres", "redis", "balancer", "node1", "node2") {
		t.Error(problem)
	}
	var file composeFile
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	for name, service := range file.Services {
		want := []string{"app"}
		if name == "postgres" || name == "redis" { // for trying the providers by hand: they start without being asked for
			want = nil
		}
		if !slices.Equal(service.Profiles, want) {
			t.Errorf("%s: profiles %q, want %q", name, service.Profiles, want)
		}
		for _, volume := range service.Volumes {
			if source, _, _ := strings.Cut(volume, ":"); strings.HasPrefix(source, "./") {
				readFile(t, source) // Docker would make a directory of that name
			}
		}
	}
}

const goodCompose = `
services:
  db:
    image: postgres:18.4-alpine
    environment: {POSTGRES_PASSWORD: "${DB_PASSWORD:-dev}", POSTGRES_USER: dev}
    ports: ["127.0.0.1:${DB_PORT:-5432}:5432"]
    volumes: ["data:/var/lib/postgresql"]
    healthcheck: {test: [CMD, pg_isready], interval: 2s, timeout: 2s, retries: 5}
    restart: unless-stopped
  job:
    profiles: [extra]
    image: golang:1.26.8-alpine
    volumes: [".:/src:ro", "data:/data"]
    restart: "no"
  app:
    profiles: [extra]
    image: alpine:3.22
    network_mode: service:job
    environment: {DB_URL: "postgres://dev:${DB_PASSWORD:-dev}@127.0.0.1/dev"}
    depends_on: {db: {condition: service_healthy}, job: {condition: service_completed_successfully}}
    healthcheck: {test: [CMD, app, ping], interval: 2s, timeout: 2s, retries: 5}
    restart: on-failure
volumes:
  data:
`

func TestComposeProblems(t *testing.T) {
	if problems := composeProblems([]byte(goodCompose), "db"); len(problems) > 0 {
		t.Fatalf("the good sample has problems: %q", problems)
	}
	for _, test := range []struct{ old, changed, want string }{
		{"  db:", "  store:", "no service db"},
		{"postgres:18.4-alpine", "postgres:latest", "not pinned"},
		{"postgres:18.4-alpine", "postgres", "not pinned"},
		{"postgres:18.4-alpine", "postgres:18", "not pinned"},
		{"postgres:18.4-alpine", "postgres@sha256:abc", "not pinned"},
		{"127.0.0.1:$", "$", "not bound to 127.0.0.1"},
		{"127.0.0.1:$", "0.0.0.0:$", "not bound to 127.0.0.1"},
		{`["127.0.0.1:${DB_PORT:-5432}:5432"]`, `[{target: 5432, published: 5432}]`, "cannot unmarshal"},
		{`"${DB_PASSWORD:-dev}"`, "hunter2", "POSTGRES_PASSWORD is not"},
		{"data:/var", "/srv:/var", "neither a declared one"},
		{".:/src:ro", ".:/src", "neither a declared one"},
		{".:/src:ro", "..:/src:ro", "neither a declared one"},
		{".:/src:ro", "/srv:/src:ro", "neither a declared one"},
		{"postgres://dev:${DB_PASSWORD:-dev}@", "postgres://dev:hunter2@", "DB_URL has a password"},
		{`restart: "no"`, "restart: on-failure", "is started again"},
		{"service:job", "host", "network_mode"},
		{"service:job", "service:other", "shares the network"},
		{"service:job", "service:app", "shares the network"},
		{"network_mode: service:job", `network_mode: service:job
    ports: ["127.0.0.1:80:80"]`, "publishes ports"},
		{"{db: {cond", "{nobody: {condition: service_healthy}, db: {cond", "which is no service"},
		{"condition: service_healthy", "condition: service_started", "does not wait"},
		{"image: alpine:3.22", "image: alpine:3", "not pinned"},
		{"test: [CMD, app, ping]", `test: ""`, "no health check"},
		{"    profiles: [extra]\n    image: alpine", "    image: alpine", "only with --profile extra"},
		{"  app:\n    profiles: [extra]", "  app:\n    profiles: [more]", "only with --profile extra"},
		{`["data:/var/lib/postgresql"]`, "[]", "in no volume"},
		{"  data:\n", "  data:\n  other:\n", `volume "other" is not used`},
		{"test: [CMD, pg_isready]", `test: ""`, "no health check"},
		{"test: [CMD, pg_isready]", "test: [x], disable: true", "no health check"},
		{"interval: 2s, ", "", "interval"},
		{"timeout: 2s", "timeout: soon", "timeout"},
		{"retries: 5", "retries: 0", "retries"},
		{"unless-stopped", "always", "restart"},
		{"    restart", "    privileged: true\n    restart", "is privileged"},
		{"    restart", "    network_mode: host\n    restart", "network_mode"},
		{"    restart", "    cap_add: [SYS_ADMIN]\n    restart", "capabilities"},
	} {
		sample := strings.Replace(goodCompose, test.old, test.changed, 1)
		problems := strings.Join(composeProblems([]byte(sample), "db"), "\n")
		if sample == goodCompose || !strings.Contains(problems, test.want) {
			t.Errorf("with %q for %q: problems %q, want one with %q", test.changed, test.old, problems, test.want)
		}
	}
}
