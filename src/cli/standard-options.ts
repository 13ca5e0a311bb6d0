/** Options that commands have without declaring them, for the parser, the manual and the completions. */
export interface StandardOption {
  /** As help shows them: `-h, --help`. */
  readonly flags: string;
  readonly summary: string;
}

export const HELP_OPTION: StandardOption = { flags: '-h, --help', summary: 'Show help' };
export const VERSION_OPTION: StandardOption = { flags: '-V, --version', summary: 'Print the version' };
/** Of commands with `mountOptions`. */
export const MOUNT_OPTION: StandardOption = {
  flags: '-o <options>',
  summary: 'Options as mount(8) gives them: key=value, separated by commas',
};

export const PROGRAM_SUMMARY = 'Mounts virtual disk images as flat files';
