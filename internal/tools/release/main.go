// Command release answers two questions that are asked before a release.
//
//	release licences [-check] FILE   lists the modules that the component is built from, with their licences
//	release changelog VERSION FILE   fails unless the changelog has an entry for that version, with a date and something in it
//
// Both are run in the root of the repository. With -check the list is compared with FILE, otherwise it is written there.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "licences":
		return writeLicences(args[1])
	case len(args) == 3 && args[0] == "licences" && args[1] == "-check":
		return checkLicences(args[2])
	case len(args) == 3 && args[0] == "changelog":
		content, err := os.ReadFile(args[2])
		if err != nil {
			return err
		}
		return checkChangelog(string(content), args[1])
	}
	return errors.New("usage: release licences [-check] FILE | release changelog VERSION FILE")
}

func writeLicences(file string) error {
	page, err := licencesPage()
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(page), 0o644) //nolint:gosec // for everybody to read
}

func checkLicences(file string) error {
	page, err := licencesPage()
	if err != nil {
		return err
	}
	written, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if string(written) != page {
		return fmt.Errorf("%s is not what the component is built from: run make licences", file)
	}
	fmt.Println(file, "lists what the component is built from")
	return nil
}
