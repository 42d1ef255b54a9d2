//! What can be fetched: the official mirrors, and the digests by which the files are known.

/// A data set that can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fetchable {
    /// Handwritten digits, 60,000 + 10,000 of 28×28; LeCun, Cortes and Burges.
    Mnist,
    /// Articles of clothing in MNIST's format; Xiao, Rasul and Vollgraf 2017.
    FashionMnist,
    /// Ten kinds of things, 50,000 + 10,000 colour images of 32×32; Krizhevsky 2009.
    Cifar10,
}

/// How a file is known to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// SHA-256 of what the gzip file unpacks to.
    Content(&'static str),
    /// SHA-256 of the file as it lies on the mirror.
    File(&'static str),
}

impl Check {
    pub(super) fn sha256(self) -> &'static str {
        match self {
            Self::Content(sha256) | Self::File(sha256) => sha256,
        }
    }

    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Content(_) => "SHA-256 of the uncompressed content",
            Self::File(_) => "SHA-256 of the file",
        }
    }
}

/// A file on a mirror.
#[derive(Clone, Debug)]
pub(super) struct RemoteFile {
    pub(super) name: &'static str,
    pub(super) check: Check,
    /// More bytes than this, packed or unpacked, are not taken from anyone.
    pub(super) limit: u64,
}

/// A data set on its mirrors.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) name: &'static str,
    pub(super) mirrors: &'static [&'static str],
    pub(super) files: Vec<RemoteFile>,
    /// Whether its one file is an archive to be unpacked.
    pub(super) unpack: bool,
}

impl Fetchable {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mnist, Self::FashionMnist, Self::Cifar10];

    /// The name, which is also that of the source in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::Cifar10 => "cifar10",
        }
    }

    pub(super) fn item(self) -> Item {
        let (mirrors, files, unpack): (&'static [&'static str], &[(&'static str, Check)], bool) = match self {
            Self::Mnist => (&MNIST_MIRRORS, &MNIST, false),
            Self::FashionMnist => (&FASHION_MIRRORS, &FASHION, false),
            Self::Cifar10 => (&CIFAR10_MIRRORS, &CIFAR10, true),
        };
        let files = files.iter().map(|&(name, check)| RemoteFile { name, check, limit: 512 << 20 }).collect();
        Item { name: self.name(), mirrors, files, unpack }
    }
}

const MNIST_MIRRORS: [&str; 2] =
    ["https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"];

// The digests of the uncompressed official files; the gzip files differ from mirror to mirror.
const MNIST: [(&str, Check); 4] = [
    (
        "train-images-idx3-ubyte.gz",
        Check::Content("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    ),
    (
        "train-labels-idx1-ubyte.gz",
        Check::Content("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        Check::Content("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        Check::Content("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
];

const FASHION_MIRRORS: [&str; 1] = ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"];

// Published by TensorFlow Datasets, github.com/tensorflow/datasets at commit 333639b37af6c6fedf3610a4a2d42f1c6ef6f7d5,
// tensorflow_datasets/url_checksums/fashion_mnist.txt.
const FASHION: [(&str, Check); 4] = [
    (
        "train-images-idx3-ubyte.gz",
        Check::File("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    ),
    (
        "train-labels-idx1-ubyte.gz",
        Check::File("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        Check::File("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        Check::File("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
];

const CIFAR10_MIRRORS: [&str; 1] = ["https://www.cs.toronto.edu/~kriz/"];

// Published by TensorFlow Datasets, the same commit, tensorflow_datasets/url_checksums/cifar10.txt.
const CIFAR10: [(&str, Check); 1] = [(
    "cifar-10-binary.tar.gz",
    Check::File("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
)];
