package repotest

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	maxTargets = 10
	maxLines   = 450
)

var (
	target     = regexp.MustCompile(`(?m)^([a-z][a-z-]*):(.*)$`)
	privateDir = regexp.MustCompile(`(^|[\s"'` + "`" + `(\[{<=,:;|]|file://)/((work|root)(/\w|$|[\s"'` + "`" + `)])|(home|Users)/\w+/)`)
)

func TestMakefile(t *testing.T) {
	for _, problem := range makefileProblems(string(readFile(t, "Makefile")), "help", "deps", "lint", "test", "example") {
		t.Error(problem)
	}
}

func TestMakefileProblems(t *testing.T) {
	many := strings.Repeat("test: ## x\n", maxTargets+1)
	for name, test := range map[string]struct {
		makefile string
		want     []string
	}{
		"good":         {"test: deps ## check\n\tgo test\ntest: export X = 1\n", nil},
		"missing":      {"help: ## list\n", []string{"no target test"}},
		"undocumented": {"test: deps\n", []string{"target test has no ## description"}},
		"too many":     {many, []string{fmt.Sprintf("%d targets, want at most %d", maxTargets+1, maxTargets)}},
	} {
		if got := makefileProblems(test.makefile, "test"); !slices.Equal(got, test.want) {
			t.Errorf("%s: problems %q, want %q", name, got, test.want)
		}
	}
}

// makefileProblems returns what is wrong with a Makefile that has to have the required targets.
func makefileProblems(makefile string, required ...string) []string {
	var problems, targets []string
	for _, match := range target.FindAllStringSubmatch(makefile, -1) {
		name, rest := match[1], match[2]
		if strings.HasPrefix(strings.TrimSpace(rest), "export ") { // a variable of that target
			continue
		}
		targets = append(targets, name)
		if !strings.Contains(rest, " ## ") {
			problems = append(problems, fmt.Sprintf("target %s has no ## description", name))
		}
	}
	if len(targets) > maxTargets {
		problems = append(problems, fmt.Sprintf("%d targets, want at most %d", len(targets), maxTargets))
	}
	for _, name := range required {
		if !slices.Contains(targets, name) {
			problems = append(problems, "no target "+name)
		}
	}
	return problems
}

func TestScripts(t *testing.T) {
	if !regexp.MustCompile(`(?m)^(exec )?make test\b`).Match(readFile(t, ".ci/run")) {
		t.Error(".ci/run does not call make test")
	}
	for name, data := range files(t, os.DirFS(root)) {
		if !bytes.HasPrefix(data, []byte("#!")) {
			continue
		}
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode()&0o111 == 0 {
			t.Errorf("%s starts with #! and is not executable", name)
		}
		if !bytes.Contains(data, []byte("\nset -eu")) {
			t.Errorf("%s does not stop at an error: no set -eu", name)
		}
	}
}

func TestFiles(t *testing.T) {
	for name, data := range files(t, os.DirFS(root)) {
		for _, problem := range fileProblems(name, data) {
			t.Errorf("%s: %s", name, problem)
		}
	}
}

func TestFileProblems(t *testing.T) {
	lines := func(n int) string { return strings.Repeat("//\n", n) }
	dir := "/" + "root"
	for _, test := range []struct {
		name, text string
		want       int
	}{
		{"a.go", lines(maxLines), 0},
		{"a.go", lines(maxLines + 1), 1},
		{"a_test.go", lines(maxLines + 1), 0},
		{"a.go", lines(maxLines) + "//", 1},
		{"a.md", "see " + dir + "/x", 1},
		{"a.md", `HOME="` + dir + `"`, 1},
		{"a.md", "/" + "home/someone/x", 1},
		{"a.go", `mux.Handle("GET /` + `home", page)`, 0},
		{"a.md", "https://example.com" + dir + "/x and a" + dir + "/x", 0},
		{"a.md", dir + "s are not " + dir + "ed", 0},
	} {
		if got := fileProblems(test.name, []byte(test.text)); len(got) != test.want {
			t.Errorf("%s, %d bytes: problems %q, want %d", test.name, len(test.text), got, test.want)
		}
	}
}

// fileProblems returns what is wrong with one file: a directory of somebody's machine, or too much Go.
func fileProblems(name string, data []byte) []string {
	var problems []string
	for line := range bytes.Lines(data) {
		if privateDir.Match(line) {
			problems = append(problems, fmt.Sprintf("names a directory of one machine: %q", line))
		}
	}
	n := bytes.Count(data, []byte("\n"))
	if len(data) > 0 && data[len(data)-1] != '\n' {
		n++
	}
	if path.Ext(name) == ".go" && !strings.HasSuffix(name, "_test.go") && n > maxLines {
		problems = append(problems, fmt.Sprintf("%d lines, want at most %d", n, maxLines))
	}
	return problems
}

func TestPackageComments(t *testing.T) {
	for _, problem := range packageProblems(files(t, os.DirFS(root))) {
		t.Error(problem)
	}
}

func TestPackageProblems(t *testing.T) {
	for text, want := range map[string]int{
		"// Package a is good.\npackage a\n":     0,
		"// Command a is good.\npackage main\n":  0,
		"// Package b is another.\npackage a\n":  1,
		"// Package a is detached.\n\npackage a": 1,
		"package main\n":                         1,
		"//go:build linux\n\npackage a\n":        1,
	} {
		got := packageProblems(map[string][]byte{
			"a/a.go": []byte(text), "a/b.go": []byte("package a"), "a/a_test.go": []byte("package a_test"),
		})
		if len(got) != want {
			t.Errorf("%q: problems %q, want %d", text, got, want)
		}
	}
	if got := packageProblems(map[string][]byte{"a/a.go": []byte("nonsense")}); len(got) != 1 {
		t.Errorf("a file that does not parse: problems %q", got)
	}
}

// packageProblems returns the directories with Go files and no package comment.
func packageProblems(all map[string][]byte) []string {
	var problems []string
	documented := map[string]bool{}
	for name, data := range all {
		if path.Ext(name) != ".go" {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, data, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		dir := path.Dir(name)
		documented[dir] = documented[dir] || hasPackageComment(file)
	}
	for dir, ok := range documented {
		if !ok {
			problems = append(problems, dir+": no package comment")
		}
	}
	slices.Sort(problems)
	return problems
}

// hasPackageComment tells whether a file has a comment that go doc shows for its package.
func hasPackageComment(file *ast.File) bool {
	text := file.Doc.Text()
	if file.Name.Name == "main" {
		return text != ""
	}
	return strings.HasPrefix(text, "Package "+file.Name.Name+" ")
}

// root is the directory of go.mod, seen from this package.
const root = "../.."

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// files returns the text files of the repository by slash-separated name. It leaves out testdata, hidden directories
// other than .ci and .github, and what is binary or larger than a mebibyte.
func files(t *testing.T, dir fs.FS) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := fs.WalkDir(dir, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // a directory that another test removed
			return nil
		case err != nil:
			return err
		case entry.IsDir():
			return skipDir(name, entry.Name())
		case !entry.Type().IsRegular():
			return nil
		}
		data, err := readText(dir, name)
		if data != nil {
			all[name] = data
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// readText returns nil for a file that is binary, larger than a mebibyte or removed by another test meanwhile.
func readText(dir fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(dir, name)
	if err == nil && info.Size() <= 1<<20 {
		var data []byte
		if data, err = fs.ReadFile(dir, name); err == nil && !bytes.ContainsRune(data, 0) {
			return data, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return nil, err
}

func skipDir(name, base string) error {
	hidden := strings.HasPrefix(base, ".") && name != "."
	if base == "testdata" || hidden && base != ".ci" && base != ".github" {
		return fs.SkipDir
	}
	return nil
}
