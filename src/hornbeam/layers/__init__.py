"""Layers: everything that `hornbeam.layers` offers, by name."""

from __future__ import annotations

from hornbeam.core.input_spec import InputSpec as InputSpec
from hornbeam.core.layer import Layer as Layer
from hornbeam.layers.activation import ELU as ELU
from hornbeam.layers.activation import Activation as Activation
from hornbeam.layers.activation import LeakyReLU as LeakyReLU
from hornbeam.layers.activation import PReLU as PReLU
from hornbeam.layers.activation import ReLU as ReLU
from hornbeam.layers.activation import Softmax as Softmax
from hornbeam.layers.attention import AdditiveAttention as AdditiveAttention
from hornbeam.layers.attention import Attention as Attention
from hornbeam.layers.attention import GroupQueryAttention as GroupQueryAttention
from hornbeam.layers.attention import MultiHeadAttention as MultiHeadAttention
from hornbeam.layers.convolution import Conv1D as Conv1D
from hornbeam.layers.convolution import Conv2D as Conv2D
from hornbeam.layers.convolution import Conv3D as Conv3D
from hornbeam.layers.convolution import DepthwiseConv1D as DepthwiseConv1D
from hornbeam.layers.convolution import DepthwiseConv2D as DepthwiseConv2D
from hornbeam.layers.convolution import SeparableConv1D as SeparableConv1D
from hornbeam.layers.convolution import SeparableConv2D as SeparableConv2D
from hornbeam.layers.convolution_transpose import Conv1DTranspose as Conv1DTranspose
from hornbeam.layers.convolution_transpose import Conv2DTranspose as Conv2DTranspose
from hornbeam.layers.convolution_transpose import Conv3DTranspose as Conv3DTranspose
from hornbeam.layers.core_layers import Identity as Identity
from hornbeam.layers.core_layers import Lambda as Lambda
from hornbeam.layers.core_layers import Masking as Masking
from hornbeam.layers.dense import Dense as Dense
from hornbeam.layers.einsum_dense import EinsumDense as EinsumDense
from hornbeam.layers.embedding import Embedding as Embedding
from hornbeam.layers.global_pooling import AdaptiveAveragePooling1D as AdaptiveAveragePooling1D
from hornbeam.layers.global_pooling import AdaptiveAveragePooling2D as AdaptiveAveragePooling2D
from hornbeam.layers.global_pooling import AdaptiveAveragePooling3D as AdaptiveAveragePooling3D
from hornbeam.layers.global_pooling import AdaptiveMaxPooling1D as AdaptiveMaxPooling1D
from hornbeam.layers.global_pooling import AdaptiveMaxPooling2D as AdaptiveMaxPooling2D
from hornbeam.layers.global_pooling import AdaptiveMaxPooling3D as AdaptiveMaxPooling3D
from hornbeam.layers.global_pooling import GlobalAveragePooling1D as GlobalAveragePooling1D
from hornbeam.layers.global_pooling import GlobalAveragePooling2D as GlobalAveragePooling2D
from hornbeam.layers.global_pooling import GlobalAveragePooling3D as GlobalAveragePooling3D
from hornbeam.layers.global_pooling import GlobalMaxPooling1D as GlobalMaxPooling1D
from hornbeam.layers.global_pooling import GlobalMaxPooling2D as GlobalMaxPooling2D
from hornbeam.layers.global_pooling import GlobalMaxPooling3D as GlobalMaxPooling3D
from hornbeam.layers.input import Input as Input
from hornbeam.layers.input import InputLayer as InputLayer
from hornbeam.layers.merging import Add as Add
from hornbeam.layers.merging import Average as Average
from hornbeam.layers.merging import Concatenate as Concatenate
from hornbeam.layers.merging import Dot as Dot
from hornbeam.layers.merging import Maximum as Maximum
from hornbeam.layers.merging import Minimum as Minimum
from hornbeam.layers.merging import Multiply as Multiply
from hornbeam.layers.merging import Subtract as Subtract
from hornbeam.layers.merging_functions import add as add
from hornbeam.layers.merging_functions import average as average
from hornbeam.layers.merging_functions import concatenate as concatenate
from hornbeam.layers.merging_functions import dot as dot
from hornbeam.layers.merging_functions import maximum as maximum
from hornbeam.layers.merging_functions import minimum as minimum
from hornbeam.layers.merging_functions import multiply as multiply
from hornbeam.layers.merging_functions import subtract as subtract
from hornbeam.layers.normalization import BatchNormalization as BatchNormalization
from hornbeam.layers.normalization_by_sample import GroupNormalization as GroupNormalization
from hornbeam.layers.normalization_by_sample import LayerNormalization as LayerNormalization
from hornbeam.layers.normalization_by_sample import RMSNormalization as RMSNormalization
from hornbeam.layers.normalization_by_sample import UnitNormalization as UnitNormalization
from hornbeam.layers.pooling import AveragePooling1D as AveragePooling1D
from hornbeam.layers.pooling import AveragePooling2D as AveragePooling2D
from hornbeam.layers.pooling import AveragePooling3D as AveragePooling3D
from hornbeam.layers.pooling import MaxPooling1D as MaxPooling1D
from hornbeam.layers.pooling import MaxPooling2D as MaxPooling2D
from hornbeam.layers.pooling import MaxPooling3D as MaxPooling3D
from hornbeam.layers.recurrent import GRU as GRU
from hornbeam.layers.recurrent import LSTM as LSTM
from hornbeam.layers.recurrent import RNN as RNN
from hornbeam.layers.recurrent import SimpleRNN as SimpleRNN
from hornbeam.layers.recurrent_cells import GRUCell as GRUCell
from hornbeam.layers.recurrent_cells import LSTMCell as LSTMCell
from hornbeam.layers.recurrent_cells import SimpleRNNCell as SimpleRNNCell
from hornbeam.layers.recurrent_cells import StackedRNNCells as StackedRNNCells
from hornbeam.layers.regularization import ActivityRegularization as ActivityRegularization
from hornbeam.layers.regularization import AlphaDropout as AlphaDropout
from hornbeam.layers.regularization import Dropout as Dropout
from hornbeam.layers.regularization import GaussianDropout as GaussianDropout
from hornbeam.layers.regularization import GaussianNoise as GaussianNoise
from hornbeam.layers.regularization import SpatialDropout1D as SpatialDropout1D
from hornbeam.layers.regularization import SpatialDropout2D as SpatialDropout2D
from hornbeam.layers.regularization import SpatialDropout3D as SpatialDropout3D
from hornbeam.layers.reshaping import Flatten as Flatten
from hornbeam.layers.reshaping import Permute as Permute
from hornbeam.layers.reshaping import RepeatVector as RepeatVector
from hornbeam.layers.reshaping import Reshape as Reshape
from hornbeam.layers.resizing import Cropping1D as Cropping1D
from hornbeam.layers.resizing import Cropping2D as Cropping2D
from hornbeam.layers.resizing import Cropping3D as Cropping3D
from hornbeam.layers.resizing import UpSampling1D as UpSampling1D
from hornbeam.layers.resizing import UpSampling2D as UpSampling2D
from hornbeam.layers.resizing import UpSampling3D as UpSampling3D
from hornbeam.layers.resizing import ZeroPadding1D as ZeroPadding1D
from hornbeam.layers.resizing import ZeroPadding2D as ZeroPadding2D
from hornbeam.layers.resizing import ZeroPadding3D as ZeroPadding3D
from hornbeam.layers.serialization import deserialize as deserialize
from hornbeam.layers.serialization import serialize as serialize
from hornbeam.layers.spectral_normalization import SpectralNormalization as SpectralNormalization
from hornbeam.layers.torch_module import TorchModuleWrapper as TorchModuleWrapper
from hornbeam.layers.wrappers import Bidirectional as Bidirectional
from hornbeam.layers.wrappers import TimeDistributed as TimeDistributed
from hornbeam.layers.wrappers import Wrapper as Wrapper

# Keras's second names
AvgPool1D = AveragePooling1D
AvgPool2D = AveragePooling2D
AvgPool3D = AveragePooling3D
Convolution1D = Conv1D
Convolution1DTranspose = Conv1DTranspose
Convolution2D = Conv2D
Convolution2DTranspose = Conv2DTranspose
Convolution3D = Conv3D
Convolution3DTranspose = Conv3DTranspose
GlobalAvgPool1D = GlobalAveragePooling1D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
GlobalMaxPool1D = GlobalMaxPooling1D
GlobalMaxPool2D = GlobalMaxPooling2D
GlobalMaxPool3D = GlobalMaxPooling3D
MaxPool1D = MaxPooling1D
MaxPool2D = MaxPooling2D
MaxPool3D = MaxPooling3D
SeparableConvolution1D = SeparableConv1D
SeparableConvolution2D = SeparableConv2D
